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
        metrics["label_f1"] = _label_metric(
            choice.labels, *([part[row] for row in kept] for part in (expected, base, tuned)), seed
        )
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


def _label_metric(
    labels: tuple[str, ...],
    expected: Sequence[Answer],
    base: Sequence[Answer],
    tuned: Sequence[Answer],
    seed: int,
) -> Metric:
    """Macro F1 over all rows, with the interval of the difference of the two."""
    right, first, second = (_numbers(part, labels) for part in (expected, base, tuned))
    once = np.full((1, len(right)), 1 / len(right))
    before, after = (float(macro_f1(right, part, once)[0]) for part in (first, second))
    # the two rows added for what few rows have not shown: one for, one against each model
    row_gain = paired_interval(
        (first == right).astype(float), (second == right).astype(float), seed
    )
    if len(right) < 2:
        return Metric(before, after, "higher", row_gain, len(right))
    low, high = bootstrap(
        len(right),
        lambda weights: macro_f1(right, second, weights) - macro_f1(right, first, weights),
        seed,
    )
    # at least as wide as that of right and wrong: few rows may hold no mistake
    accuracy = float((hits[1] - hits[0]).mean())
    low = min(low, after - before - (accuracy - row_gain[0]))
    high = max(high, after - before + (row_gain[1] - accuracy))
    return Metric(before, after, "higher", (max(low, -1.0), min(high, 1.0)), len(right))


def _numbers(answers: Sequence[Answer], labels: tuple[str, ...]) -> np.ndarray:
    at = {label: number for number, label in enumerate(labels)}
    found = [None if one.calls else label_of(one.content, labels) for one in answers]
    return np.array([-1 if label is None else at[label] for label in found])
