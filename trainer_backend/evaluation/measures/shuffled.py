"""The control: how well answers fit the expected answers of other rows.

A model that was trained on shuffled answers learns their form, their usual words and their most
frequent label; all of that raises a score without one answer fitting its own prompt better.
"""

from collections.abc import Sequence

import numpy as np

from trainer_backend.evaluation.measures.intervals import paired_interval
from trainer_backend.evaluation.measures.scores import score_answer
from trainer_backend.evaluation.results import Metric
from trainer_backend.models.loaded.answer_parts import Answer

OTHERS = 16  # rows that each answer is held against
_MOST_CHARS = 2_000_000  # of answers scored for the control: long answers meet fewer other rows


def shuffled_control(
    name: str,
    expected: Sequence[Answer],
    base: Sequence[Answer],
    tuned: Sequence[Answer],
    labels: tuple[str, ...] = (),
    seed: int = 0,
) -> Metric | None:
    """Own score minus the mean score against other rows' expected answers, base and tuned.

    0 is what an answer gets that has nothing to do with its prompt. None if all expected answers
    are the same, for then their form is the task, or if fewer than two rows can be scored. Each
    answer meets up to 16 other rows, the same for both models (rows turned by seeded distances).
    """
    rows = [
        at for at, one in enumerate(expected) if score_answer(name, one, one, labels) is not None
    ]
    kept = [[part[at] for at in rows] for part in (expected, base, tuned)]
    if len({repr((one.content, one.calls)) for one in kept[0]}) < 2:
        return None
    length = sum(len(one.content) for part in kept for one in part)
    most = max(2, min(OTHERS, _MOST_CHARS // max(length, 1), len(rows) - 1))
    order = np.random.default_rng(seed).permutation(len(rows))
    turns = 1 + np.random.default_rng(seed).permutation(len(rows) - 1)[:most]
    gains = [_gains(name, kept[0], answers, order, turns, labels) for answers in kept[1:]]
    before, after = (float(part.mean()) for part in gains)
    return Metric(before, after, "higher", paired_interval(gains[0], gains[1], seed), len(rows))


def _gains(
    name: str,
    expected: Sequence[Answer],
    answers: Sequence[Answer],
    order: np.ndarray,
    turns: np.ndarray,
    labels: tuple[str, ...],
) -> np.ndarray:
    """Each row's own score minus its mean score against other rows."""
    found = np.zeros(len(answers))
    for place, row in enumerate(order):
        others = [int(order[(place + turn) % len(order)]) for turn in turns]
        own, *rest = (
            score_answer(name, answers[row], expected[at], labels) or 0.0 for at in [row, *others]
        )
        found[row] = own - sum(rest) / len(rest)
    return found
