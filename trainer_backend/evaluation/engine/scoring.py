"""Answers and losses become the result: measures, verdict, and every row as a person reads it.

How one answer is scored, and when a run counts as better, is decided by the measures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trainer_backend.evaluation.engine.losses import GroupLoss
from trainer_backend.evaluation.engine.questions import Ready
from trainer_backend.evaluation.measures import (
    Learning,
    Verdict,
    choose_measures,
    compare_answers,
    loss_metrics,
    score_answer,
    verdict_of,
)
from trainer_backend.evaluation.results import Asked, Metric
from trainer_backend.models.loaded.answer_parts import Answer, same_answer

NO_ANSWERS = "loss"  # the main measure where nothing was asked


@dataclass(frozen=True)
class Scored:
    """What an evaluation says: its numbers, its verdict, its rows, and what was chosen."""

    metrics: dict[str, Metric]
    main: str
    verdict: Verdict
    rows: list[Asked]
    why: str
    right: dict[str, float]  # exact matches of base and tuned, a share; empty if nothing was asked


def scored(
    asked: Sequence[Ready],
    answers: Mapping[str, Sequence[Answer]],
    losses: Mapping[str, Sequence[GroupLoss]],
    wanted: Sequence[str],
    learning: Learning,
) -> Scored:
    """Score the answers of “base” and “tuned” to the same questions, and their losses.

    `wanted` are names of measures; none: those that fit the expected answers.
    """
    metrics = _loss(losses)
    if not asked:
        return Scored(metrics, NO_ANSWERS, _by_loss(metrics, learning), [], "", {})
    expected = [_expected(one) for one in asked]
    given = {
        which: [_as_expected(a, one) for a, one in zip(answers[which], asked, strict=True)]
        for which in ("base", "tuned")
    }
    choice = choose_measures(expected, wanted)
    found = compare_answers(choice, expected, given["base"], given["tuned"])
    metrics = {**found.metrics, **metrics}
    rows = [
        _row(one, {which: answers[which][at] for which in given}, found.scores[at])
        for at, one in enumerate(asked)
    ]
    right = {which: _share_right(texts, expected) for which, texts in given.items()}
    verdict = verdict_of(choice.main, metrics, found.control, learning)
    return Scored(metrics, choice.main, verdict, rows, choice.why, right)


def _loss(losses: Mapping[str, Sequence[GroupLoss]]) -> dict[str, Metric]:
    base, tuned = losses.get("base") or (), losses.get("tuned") or ()
    if not base or not tuned:
        return {}
    return loss_metrics(
        [one.nats for one in base], [one.nats for one in tuned], [one.tokens for one in base]
    )


def _by_loss(metrics: Mapping[str, Metric], learning: Learning) -> Verdict:
    """The verdict where nothing could be asked: plain text has no answers, only its loss."""
    warnings = verdict_of("", metrics, None, learning).warnings  # of the loss alone
    loss = metrics.get("loss")
    if loss is None:
        return Verdict("no clear difference", "No clear difference: nothing was measured.", [])
    low, high = loss.interval
    numbers = f"the loss is {loss.tuned:.3f}, the base model's {loss.base:.3f}"
    if low <= 0 <= high:
        return Verdict("no clear difference", f"No clear difference: {numbers}.", warnings)
    verdict = "better" if high < 0 else "worse"
    return Verdict(
        verdict, f"{verdict.capitalize()}: {numbers}. No answer was asked for.", warnings
    )


def _expected(one: Ready) -> Answer:
    """The expected answer; where the template writes calls in an unknown form, its text."""
    expected = one.question.expected
    if expected.calls and not one.taught.calls:
        return Answer(one.taught.in_words())
    return expected


def _as_expected(given: Answer, one: Ready) -> Answer:
    """The answer that is scored: what the template made of the expected one counts as that."""
    expected = one.question.expected
    if expected.calls and not one.taught.calls:
        return Answer(given.in_words())
    return replace(expected, cut=given.cut) if same_answer(given, one.taught) else given


def _share_right(given: Sequence[Answer], expected: Sequence[Answer]) -> float:
    hits = [
        score_answer("exact_match", one, right) or 0.0
        for one, right in zip(given, expected, strict=True)
    ]
    return sum(hits) / len(hits)


def _row(one: Ready, given: Mapping[str, Answer], scores: dict[str, dict[str, float]]) -> Asked:
    """One question with its answers as a person reads them; calls look like calls."""
    asked, expected = one.question, one.question.expected
    marks = {name: _marks(answer) for name, answer in {"expected": expected, **given}.items()}
    marks["prompt"] = {"images": len(asked.images)} if asked.images else {}
    return Asked(
        row=asked.row,
        prompt=asked.shown,
        expected=expected.in_words(),
        base=given["base"].in_words(),
        tuned=given["tuned"].in_words(),
        scores=scores,
        messages=asked.messages,
        tools=list(asked.asked.tools),
        marks={name: found for name, found in marks.items() if found},
    )


def _marks(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = {"cut": True} if answer.cut else {}
    return {**found, "reasoning": answer.reasoning} if answer.reasoning else found
