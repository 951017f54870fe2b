"""Pages, searches and single rows out of a stored dataset's Parquet files, without loading them.

Only reading: the files are written by dataset_writer.py.
"""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainer_backend.data.formats import Example
from trainer_backend.data.json_values import cell_text, parse, to_json

SEARCH_THREADS = min(4, os.cpu_count() or 1)


def page(
    path: Path, start: int, count: int, query: str, rows_only: Sequence[int] | None
) -> tuple[list[tuple[int, dict]], int]:
    """Rows of rows.parquet as (number, {column: text}) from the `start`th match on; all matches."""
    with pq.ParquetFile(path, memory_map=True) as file:
        num_rows = file.metadata.num_rows
        start, count = max(0, start), max(0, count)
        if not query and rows_only is None:
            wanted, total = range(start, min(start + count, num_rows)), num_rows
        else:
            matches = _matches(path, num_rows, query, rows_only)
            wanted, total = matches[start : start + count].tolist(), len(matches)
        cells = _take(file, list(wanted), ["row", "cells"])
    rows = [(one["row"], _as_text(parse(one["cells"]))) for one in cells]
    return rows, total


def _as_text(row: dict) -> dict[str, str]:
    return {column: cell_text(value) for column, value in row.items()}


def _matches(path: Path, num_rows: int, query: str, rows_only: Sequence[int] | None) -> np.ndarray:
    """Indices of the rows that hold the query and are among `rows_only`."""
    found = _search(path, query) if query else np.arange(num_rows)
    if rows_only is not None:
        found = np.intersect1d(found, np.asarray(rows_only, dtype=np.int64) - 1)
    return found


@lru_cache(maxsize=8)
def _search(path: Path, query: str) -> np.ndarray:
    """Indices of rows whose cells hold the query, whatever the case. Files never change: cached."""
    wanted = to_json(query)[1:-1]
    with pq.ParquetFile(path, memory_map=True) as file:
        groups = list(range(file.metadata.num_row_groups))
    starts = range(0, len(groups), max(1, -(-len(groups) // SEARCH_THREADS)))
    parts = [groups[at : at + starts.step] for at in starts]
    with ThreadPoolExecutor(SEARCH_THREADS) as threads:
        hits = list(threads.map(lambda part: _search_groups(path, part, wanted), parts))
    return np.flatnonzero(np.concatenate(hits)) if hits else np.empty(0, np.int64)


def _search_groups(path: Path, groups: list[int], wanted: str) -> np.ndarray:
    """For every row of these row groups, whether it holds the wanted JSON text."""
    found = []
    with pq.ParquetFile(path, memory_map=True) as file:  # one for each thread: they are not shared
        for group in groups:
            cells = file.read_row_group(group, columns=["cells"], use_threads=False)["cells"]
            hits = pc.match_substring(cells, wanted, ignore_case=True)
            found.append(hits.to_numpy())
    return np.concatenate(found)


def _take(file: pq.ParquetFile, indices: list[int], columns: list[str]) -> list[dict]:
    """The rows at these indices, in their order; only row groups that hold them are read."""
    groups = [file.metadata.row_group(at).num_rows for at in range(file.metadata.num_row_groups)]
    ends = list(accumulate(groups))
    taken: list[dict] = []
    at = 0
    while at < len(indices):
        group = bisect_right(ends, indices[at])
        begin, end = ends[group] - groups[group], ends[group]
        until = at
        while until < len(indices) and begin <= indices[until] < end:
            until += 1
        table = file.read_row_group(group, columns=columns, use_threads=False)
        inside = pa.array([index - begin for index in indices[at:until]], pa.int64())
        taken.extend(table.take(inside).to_pylist())
        at = until
    return taken


EXAMPLE_COLUMNS = ["row", "messages", "text", "tools"]


def example_of_row(path: Path, row: int) -> Example | None:
    """The example made from a row; None if there is none."""
    with pq.ParquetFile(path, memory_map=True) as file:
        for group in range(file.metadata.num_row_groups):
            edges = file.metadata.row_group(group).column(0).statistics
            if edges.min <= row <= edges.max:
                rows = file.read_row_group(group, columns=["row"])["row"].to_numpy()
                at = int(np.searchsorted(rows, row))
                if at == len(rows) or rows[at] != row:
                    return None
                table = file.read_row_group(group, columns=EXAMPLE_COLUMNS, use_threads=False)
                return _as_example(table.slice(at, 1).to_pylist()[0])
    return None


def iter_examples(path: Path, indices: Sequence[int] | None = None) -> Iterator[Example]:
    """Examples in file order, or those at `indices` in the order given."""
    with pq.ParquetFile(path, memory_map=True) as file:
        if indices is not None:
            wanted = list(indices)
            for at in range(0, len(wanted), 1_000):
                for one in _take(file, wanted[at : at + 1_000], EXAMPLE_COLUMNS):
                    yield _as_example(one)
            return
        for batch in file.iter_batches(batch_size=1_000, columns=EXAMPLE_COLUMNS):
            yield from map(_as_example, batch.to_pylist())


def rows_of_problem(path: Path, problem: int) -> list[int]:
    """All row numbers of one problem, from problems.parquet."""
    table = pq.read_table(path, filters=[("problem", "=", problem)])
    return table["row"].to_pylist()


def iter_rows(path: Path) -> Iterator[tuple[int, dict]]:
    """All rows of rows.parquet with the values they had in the upload."""
    with pq.ParquetFile(path, memory_map=True) as file:
        for batch in file.iter_batches(batch_size=1_000):
            for number, cells in zip(
                *(column.to_pylist() for column in batch.columns), strict=True
            ):
                yield number, parse(cells)


def _as_example(one: dict) -> Example:
    messages = None if one["messages"] is None else parse(one["messages"])
    tools = None if one["tools"] is None else parse(one["tools"])
    return Example(one["row"], messages, one["text"], tools)
