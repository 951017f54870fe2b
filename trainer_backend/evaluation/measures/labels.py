"""Answers that are labels: which label an answer is, and the macro F1 of many answers."""

from collections.abc import Sequence

import numpy as np

from trainer_backend.evaluation.measures.words import folded, plain, without_edges


def label_of(text: str, labels: Sequence[str]) -> str | None:
    """The label that an answer is, or None if it is none of them.

    Case, white space and punctuation around it do not count, unless two labels differ only in them.
    """
    if plain(text) in labels:
        return plain(text)
    same = [label for label in labels if label_key(label) == label_key(text)]
    return same[0] if len(same) == 1 else None


def label_key(text: str) -> str:
    """What two spellings of one label share."""
    return folded(without_edges(plain(text)))


def macro_f1(right: np.ndarray, given: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Macro F1 for each line of `weights`: the mean of the labels' F1 scores.

    `right` and `given` are (rows,) numbers of labels, -1 for no label; `weights` is (lines, rows),
    how often a row counts. A label that a line neither expects nor has is left out of its mean;
    a line without any label has 0.
    """
    count = int(max(right.max(initial=-1), given.max(initial=-1))) + 1
    numbers = np.arange(count)
    expected = (right[:, None] == numbers).astype(float)
    found = (given[:, None] == numbers).astype(float)
    both = weights @ (expected * found)
    total = weights @ (expected + found)
    scores = np.divide(2 * both, total, out=np.zeros_like(total), where=total > 0)
    return scores.sum(axis=1) / np.maximum((total > 0).sum(axis=1), 1)
