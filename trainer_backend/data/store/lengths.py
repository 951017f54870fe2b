"""How long each row and its answer is, in characters, and the orders that follow from it.

Written once with the dataset and mapped into memory after. Lengths in tokens need a model.
"""

import os
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from trainer_backend.data.formats.example import Example

LENGTHS = "lengths.npy"  # int64 (3, rows): row number, characters of the row, of its answer
ORDERS = "orders.npy"  # int32 (3, rows): row indices in each of SORTS but the first
SORTS = ("row", "longest", "shortest", "answer")


def answer_length(example: Example) -> int:
    """Characters of what an example teaches: its last message, or all of a text."""
    if example.messages is None:
        return len(example.text or "")
    content = example.messages[-1].get("content")
    return len(content) if isinstance(content, str) else 0


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array so that a reader sees all of it or none."""
    handle, part = tempfile.mkstemp(prefix=".part-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, array)
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)


def save_lengths(folder: Path, lengths: np.ndarray) -> None:
    """Write LENGTHS (int64, shape (3, rows)) and the orders that follow, into a dataset folder."""
    save_array(folder / LENGTHS, lengths)
    _, rows, answers = lengths
    orders = [np.argsort(keys, kind="stable") for keys in (-rows, rows, -answers)]
    save_array(folder / ORDERS, np.stack(orders).astype(np.int32))


@lru_cache(maxsize=8)
def row_numbers(folder: Path) -> np.ndarray:
    """The row numbers of a stored dataset, ascending. Files never change: cached."""
    return np.ascontiguousarray(np.load(folder / LENGTHS, mmap_mode="r")[0])


def order_of(folder: Path, sort: str) -> np.ndarray:
    """Row indices in one of SORTS (not "row"); rows of the same length stay in order."""
    return np.load(folder / ORDERS, mmap_mode="r")[SORTS.index(sort) - 1]
