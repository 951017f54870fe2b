"""How long each row and its answer is, in characters, and the orders that follow from it.

Written once with the dataset and mapped into memory after. Lengths in tokens need a model.
"""

import os
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from trainer_backend.data.formats import Example

LENGTHS = "lengths.npy"  # int64 (3, rows): row number, characters of the row, of its answer
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


@lru_cache(maxsize=8)
def row_numbers(folder: Path) -> np.ndarray:
    """The row numbers of a stored dataset, ascending. Files never change: cached."""
    return np.ascontiguousarray(np.load(folder / LENGTHS, mmap_mode="r")[0])


@lru_cache(maxsize=8)
def order_of(folder: Path, sort: str) -> np.ndarray:
    """Row indices in one of SORTS (not "row"); rows of the same length stay in order."""
    _, rows, answers = np.load(folder / LENGTHS, mmap_mode="r")
    keys = {"longest": -rows, "shortest": rows, "answer": -answers}
    return np.argsort(keys[sort], kind="stable").astype(np.int32)
