"""Questions about all tokens of a prepared table, answered some rows at a time.

A column is never held whole: a table of a million rows may be larger than memory.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from datasets import Dataset

from trainer_backend.tokens.refusals import RowsRefused
from trainer_backend.tokens.stopping import endless_rows
from trainer_backend.tokens.tokenise import IGNORED

ROWS_AT_ONCE = 10_000


def teaching_at(dataset: Dataset) -> np.ndarray:
    """Bool [rows]: whether a token after a row's first is trained."""
    found = [np.zeros(0, bool)]
    for labels, starts in _parts(dataset, "labels"):
        learned = np.append(0, np.cumsum(labels != IGNORED))
        first = np.minimum(starts[:-1] + 1, starts[1:])
        found.append(learned[starts[1:]] > learned[first])
    return np.concatenate(found)


def endless_at(
    dataset: Dataset, lengths: np.ndarray, limit: int | None, stops: frozenset[int]
) -> np.ndarray:
    """Bool [rows]: a row teaches answers and no token that ends them, of those whose end is kept.

    `lengths` are the rows' tokens before cutting, `limit` those that are kept (None: all).
    """
    found = [endless_rows(*part, stops) for part in _parts(dataset, "labels")]
    endless = np.concatenate([np.zeros(0, bool), *found])
    return endless if limit is None else endless & (lengths <= limit)


def check_vocabulary(dataset: Dataset, vocabulary: int | None, name: str) -> None:
    """Raise RowsRefused, naming the first row with a token that a model does not have."""
    if vocabulary is None:
        return
    before = 0
    for tokens, starts in _parts(dataset, "input_ids"):
        wrong = np.flatnonzero((tokens < 0) | (tokens >= vocabulary))
        if len(wrong):
            row = before + int(np.searchsorted(starts, wrong[0], side="right"))
            raise RowsRefused(
                {name: [row - 1]},
                f"Token {tokens[wrong[0]]} does not exist in a model of {vocabulary} tokens.",
                f"{name} dataset, row {row}",
                "Use the tokenizer that belongs to the model, or resize its embedding first.",
                can_leave_out=False,
            )
        before += len(starts) - 1


def row_lengths(dataset: Dataset) -> np.ndarray:
    """int64 [rows]: tokens of each row; only offsets are read, also of shuffled rows."""
    chunks = dataset.data.column("input_ids").chunks
    lengths = [np.asarray(one.value_lengths(), np.int64) for one in chunks]
    every = np.concatenate([np.zeros(0, np.int64), *lengths])
    return every if dataset._indices is None else every[dataset._indices.column(0).to_numpy()]


def _parts(dataset: Dataset, column: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The tokens of some rows in one array, and the offsets of these rows in it [rows + 1]."""
    only = dataset.select_columns([column]).with_format("arrow")
    for start in range(0, len(only), ROWS_AT_ONCE):
        table = only[start : start + ROWS_AT_ONCE]
        lists = pa.concat_arrays(table[column].chunks)
        starts = np.append(0, np.cumsum(lists.value_lengths().to_numpy())).astype(np.int64)
        yield lists.flatten().to_numpy(zero_copy_only=False), starts
