"""All rows by all chosen measures: the base model, the tuned one, and how sure the difference is.

Nothing is judged here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer_backend.evaluation.measures.choice import Choice
from trainer_backend.evaluation.measures.intervals import bootstrap, paired_interval
from trainer_backend.evaluation.measures.labels import label_of, macro_f1
from trainer_backend.evaluation.measures.scores import score_answer
from trainer_backend.evaluation.measures.shuffled import shuffled_control
from trainer_backend.evaluation.results import Metric
from trainer_backend.models.loaded.answer_parts import Answer

RowScores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Compared:
    """`metrics` by measure; `scores` of each row as {measure: {"base", "tuned"}}.

    `control` is the main measure's gain over the expected answers of other rows, which tells
    answers to these prompts from answers of the right form; None where rows cannot tell.
    A measure that no row can be scored by is left out.
    """

    metrics: dict[str, Metric]
    scores: list[RowScores]
    control: Metric | None


def compare_answers(
    choice: Choice,
    expected: Sequence[Answer],
    base: Sequence[Answer],
    tuned: Sequence[Answer],
    seed: int = 0,
) -> Compared:
    """Score the answers of two models to the same rows. All three sequences have one length."""
    scores: list[RowScores] = [{} for _ in expected]
    for name in choice.names:
        for row, (right, first, second) in enumerate(zip(expected, base, tuned, strict=True)):
            before = score_answer(name, first, right, choice.labels)
            after = score_answer(name, second, right, choice.labels)
            if before is not None and after is not None:
                scores[row][name] = {"base": before, "tuned": after}
    metrics = {}
    for name in choice.names:
        found = [row[name] for row in scores if name in row]
        if found:
            pairs = [(one["base"], one["tuned"]) for one in found]
            metrics[name] = _mean_metric(pairs, seed)
    if "label_f1" in metrics and choice.labels:
        kept = [row for row, found in enumerate(scores) if "label_f1" in found]
        numbers = [
            _numbers([part[row] for row in kept], choice.labels) for part in (expected, base, tuned)
        ]
        metrics["label_f1"] = _label_metric(numbers[0], numbers[1], numbers[2], seed)
    control = shuffled_control(choice.main, expected, base, tuned, choice.labels, seed)
    return Compared(metrics, scores, control)


def loss_metrics(
    base: Sequence[float], tuned: Sequence[float], tokens: Sequence[int], seed: int = 0
) -> dict[str, Metric]:
    """Loss per token and perplexity over rows; empty without any trained token.

    `base` and `tuned` are each row's summed cross-entropy in nats, `tokens` its number of tokens
    that count.
    """
    kept = [at for at, count in enumerate(tokens) if count]
    if not kept:
        return {}
    sums = np.array([[base[at], tuned[at], tokens[at]] for at in kept], dtype=float)
    before, after = (float(sums[:, at].sum() / sums[:, 2].sum()) for at in (0, 1))
    wide = max(before, after)  # one row: nothing is known of others
    loss, perplexity = (-wide, wide), (-float(np.exp(wide)), float(np.exp(wide)))
    if len(kept) > 1:
        loss = bootstrap(len(kept), lambda weights: _gain(weights @ sums), seed)
        perplexity = bootstrap(len(kept), lambda weights: _gain_of_exp(weights @ sums), seed)
    return {
        "loss": Metric(before, after, "lower", loss, len(kept)),
        "perplexity": Metric(
            float(np.exp(before)), float(np.exp(after)), "lower", perplexity, len(kept)
        ),
    }


def _gain(sums: np.ndarray) -> np.ndarray:
    return (sums[:, 1] - sums[:, 0]) / sums[:, 2]


def _gain_of_exp(sums: np.ndarray) -> np.ndarray:
    means = np.exp(sums[:, :2] / sums[:, 2:])
    return means[:, 1] - means[:, 0]


def _mean_metric(pairs: Sequence[tuple[float, float]], seed: int) -> Metric:
    base, tuned = (np.array(part) for part in zip(*pairs, strict=True))
    interval = paired_interval(base, tuned, seed)
    return Metric(float(base.mean()), float(tuned.mean()), "higher", interval, len(pairs))


def _label_metric(right: np.ndarray, base: np.ndarray, tuned: np.ndarray, seed: int) -> Metric:
    """Macro F1 over all rows, with the interval of the difference of the two.

    It is made at least as wide as that of right and wrong rows, since few rows may hold no mistake.
    """
    once = np.full((1, len(right)), 1 / len(right))
    before, after = (float(macro_f1(right, part, once)[0]) for part in (base, tuned))
    hits = [(part == right).astype(float) for part in (base, tuned)]
    share = float((hits[1] - hits[0]).mean())
    low, high = (end - share for end in paired_interval(hits[0], hits[1], seed))
    if len(right) > 1:
        found = bootstrap(len(right), lambda lines: _f1_gain(right, base, tuned, lines), seed)
        low, high = min(low, found[0] - (after - before)), max(high, found[1] - (after - before))
    interval = (max(after - before + low, -1.0), min(after - before + high, 1.0))
    return Metric(before, after, "higher", interval, len(right))


def _f1_gain(
    right: np.ndarray, base: np.ndarray, tuned: np.ndarray, lines: np.ndarray
) -> np.ndarray:
    return macro_f1(right, tuned, lines) - macro_f1(right, base, lines)


def _numbers(answers: Sequence[Answer], labels: tuple[str, ...]) -> np.ndarray:
    at = {label: number for number, label in enumerate(labels)}
    found = [None if one.calls else label_of(one.content, labels) for one in answers]
    return np.array([-1 if label is None else at[label] for label in found])
