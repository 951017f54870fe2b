"""Reads a stored dataset in parts: pages, searches, single rows, the rows of a problem.

Files are never loaded whole, and never change once stored, so what is read may be cached.
"""

import os
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainer_backend.data.formats import Example
from trainer_backend.data.json_values import cell_text, parse, to_json
from trainer_backend.errors import UserError

LENGTHS = "lengths.npy"  # int64 (3, rows): row number, characters of the row, of its answer
ORDERS = "orders.npy"  # int32 (3, rows): row indices in each of SORTS but the first
SORTS = ("row", "longest", "shortest", "answer")  # answer: longest answer first
SEARCH_THREADS = min(4, os.cpu_count() or 1)
Made = TypeVar("Made")
NumberedRow = tuple[int, dict[str, Any]]  # the row's number in the upload, and {column: value}


@dataclass(frozen=True)
class Find:
    """Which rows a page shows: those that contain the query and are among `rows_only`, sorted."""

    query: str = ""
    rows_only: Sequence[int] | np.ndarray | None = None
    sort: str = "row"  # one of SORTS


def page(
    folder: Path, find: Find, start: int, count: int, cut: int | None = None
) -> tuple[list[tuple[int, dict[str, str]]], int]:
    """(rows, number of matches): `count` rows as (number, {column: text}) from match `start` on.

    Texts are cut to `cut` characters. Raises UserError for an unknown sort.
    """
    start, count = max(0, start), max(0, count)
    with pq.ParquetFile(folder / "rows.parquet", memory_map=True) as file:
        matches = _matches(folder, find, file.metadata.num_rows)
        wanted = [int(index) for index in matches[start : start + count]]
        rows = _take(file, wanted, ["row", "cells"], lambda one: _as_text(one, cut))
    return rows, len(matches)


def place_of(folder: Path, find: Find, row: int) -> int | None:
    """The index of a row among the matches, from 0; None if it is not among them."""
    numbers = row_numbers(folder)
    index = int(np.searchsorted(numbers, row))
    if index == len(numbers) or numbers[index] != row:
        return None
    matches = np.asarray(_matches(folder, find, len(numbers)))
    found = np.flatnonzero(matches == index)
    return int(found[0]) if len(found) else None


def _as_text(one: dict, cut: int | None) -> tuple[int, dict[str, str]]:
    row = parse(one["cells"])
    return one["row"], {column: cell_text(value)[:cut] for column, value in row.items()}


def _matches(folder: Path, find: Find, num_rows: int) -> np.ndarray | range:
    """Indices of the matching rows, in the order to show them."""
    if find.sort not in SORTS:
        what = f"Rows cannot be sorted by “{find.sort[:40]}”."
        raise UserError(what, "the table", f"Use one of {', '.join(SORTS)}.")
    if not find.query and find.rows_only is None:
        return range(num_rows) if find.sort == "row" else _order(folder, find.sort)
    hits = _search(folder / "rows.parquet", find.query) if find.query else np.ones(num_rows, bool)
    if find.rows_only is not None:
        hits = hits & np.isin(row_numbers(folder), np.asarray(find.rows_only, dtype=np.int64))
    if find.sort == "row":
        return np.flatnonzero(hits)
    order = _order(folder, find.sort)
    return order[hits[order]]


def _order(folder: Path, sort: str) -> np.ndarray:
    return np.load(folder / ORDERS, mmap_mode="r")[SORTS.index(sort) - 1]


@lru_cache(maxsize=8)
def row_numbers(folder: Path) -> np.ndarray:
    """int64 (rows,): the row numbers, ascending."""
    return np.ascontiguousarray(np.load(folder / LENGTHS, mmap_mode="r")[0])


@lru_cache(maxsize=8)
def _search(path: Path, query: str) -> np.ndarray:
    """bool (rows,): whether the cells of each row contain the query, ignoring case."""
    wanted = to_json(query)[1:-1]
    with pq.ParquetFile(path, memory_map=True) as file:
        groups = list(range(file.metadata.num_row_groups))
    starts = range(0, len(groups), max(1, -(-len(groups) // SEARCH_THREADS)))
    parts = [groups[at : at + starts.step] for at in starts]
    with ThreadPoolExecutor(SEARCH_THREADS) as threads:
        hits = list(threads.map(lambda part: _search_groups(path, part, wanted), parts))
    return np.concatenate(hits) if hits else np.empty(0, bool)


def _search_groups(path: Path, groups: list[int], wanted: str) -> np.ndarray:
    found = []
    with pq.ParquetFile(path, memory_map=True) as file:  # one per thread: not thread-safe
        for group in groups:
            cells = file.read_row_group(group, columns=["cells"], use_threads=False)["cells"]
            hits = pc.match_substring(cells, wanted, ignore_case=True)
            found.append(hits.to_numpy())
    return np.concatenate(found)


def _take(
    file: pq.ParquetFile, indices: list[int], columns: list[str], make: Callable[[dict], Made]
) -> list[Made]:
    """`make(row)` for the rows at these indices, in their order; reads each row group once."""
    groups = [file.metadata.row_group(at).num_rows for at in range(file.metadata.num_row_groups)]
    ends = list(accumulate(groups))
    places: dict[int, list[int]] = {}
    for place, index in enumerate(indices):
        places.setdefault(bisect_right(ends, index), []).append(place)
    taken: list = [None] * len(indices)
    for group, wanted in places.items():
        begin = ends[group] - groups[group]
        table = file.read_row_group(group, columns=columns, use_threads=False)
        inside = pa.array([indices[place] - begin for place in wanted], pa.int64())
        for place, row in zip(wanted, table.take(inside).to_pylist(), strict=True):
            taken[place] = make(row)
    return taken


def _example_columns(file: pq.ParquetFile) -> list[str]:
    """The columns of an Example; older datasets have no images."""
    known = file.schema_arrow.names
    return [name for name in ("row", "messages", "text", "tools", "images") if name in known]


def _as_example(one: dict) -> Example:
    parsed = {
        name: parse(one[name])
        for name in ("messages", "tools", "images")
        if one.get(name) is not None
    }
    return Example(one["row"], parsed.pop("messages", None), one["text"], **parsed)


def example_of_row(path: Path, row: int) -> Example | None:
    """The example made from a row; None if the row has none."""
    with pq.ParquetFile(path, memory_map=True) as file:
        for group in range(file.metadata.num_row_groups):
            edges = file.metadata.row_group(group).column(0).statistics
            if edges.min <= row <= edges.max:
                rows = file.read_row_group(group, columns=["row"])["row"].to_numpy()
                at = int(np.searchsorted(rows, row))
                if at == len(rows) or rows[at] != row:
                    return None
                columns = _example_columns(file)
                table = file.read_row_group(group, columns=columns, use_threads=False)
                return _as_example(table.slice(at, 1).to_pylist()[0])
    return None


def examples_of_rows(path: Path, rows: Sequence[int]) -> dict[int, Example]:
    """The examples made from these rows, by row number; rows without one are left out."""
    found: dict[int, Example] = {}
    with pq.ParquetFile(path, memory_map=True) as file:
        columns = _example_columns(file)
        for group in range(file.metadata.num_row_groups):
            edges = file.metadata.row_group(group).column(0).statistics
            wanted = [row for row in rows if edges.min <= row <= edges.max]
            if not wanted:
                continue
            numbers = file.read_row_group(group, columns=["row"])["row"].to_numpy()
            places = np.searchsorted(numbers, wanted)
            pairs = zip(places, wanted, strict=True)
            kept = [at for at, row in pairs if at < len(numbers) and numbers[at] == row]
            table = file.read_row_group(group, columns=columns, use_threads=False)
            for one in table.take(kept).to_pylist():
                example = _as_example(one)
                found[example.row] = example
    return found


def iter_examples(path: Path, indices: Sequence[int] | None = None) -> Iterator[Example]:
    """All examples in file order, or those at `indices` in the order given."""
    with pq.ParquetFile(path, memory_map=True) as file:
        columns = _example_columns(file)
        if indices is not None:
            wanted = list(indices)
            for at in range(0, len(wanted), 1_000):
                yield from _take(file, wanted[at : at + 1_000], columns, _as_example)
            return
        for batch in file.iter_batches(batch_size=1_000, columns=columns):
            yield from map(_as_example, batch.to_pylist())


def iter_rows(path: Path) -> Iterator[NumberedRow]:
    """All rows of rows.parquet, with the values they had in the upload."""
    for number, cells in iter_cells(path):
        yield number, parse(cells)


def iter_cells(path: Path) -> Iterator[tuple[int, str]]:
    """All rows of rows.parquet as (number, stored JSON)."""
    with pq.ParquetFile(path, memory_map=True) as file:
        for group in range(file.metadata.num_row_groups):  # one at a time: rows may be long
            for batch in file.iter_batches(batch_size=1_000, row_groups=[group]):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def rows_of_problem(path: Path, problem: int) -> list[int]:
    """All row numbers of the problem at this index, from problems.parquet."""
    table = pq.read_table(path, filters=[("problem", "=", problem)])
    return table["row"].to_pylist()


def rows_of_problems(path: Path, problems: Sequence[int] | None) -> np.ndarray:
    """The ascending row numbers of several problems, each once; None means all problems."""
    table = pq.read_table(path)
    rows = table["row"].to_numpy()
    if problems is not None:
        rows = rows[np.isin(table["problem"].to_numpy(), list(problems))]
    return np.unique(rows)


def answer_length(example: Example) -> int:
    """Characters of the last message, or of a plain text."""
    if example.messages is None:
        return len(example.text or "")
    content = example.messages[-1].get("content")
    return len(content) if isinstance(content, str) else 0


def save_lengths(folder: Path, lengths: np.ndarray) -> None:
    """Write LENGTHS (int64 (3, rows)) and the ORDERS that follow from it."""
    save_array(folder / LENGTHS, lengths)
    _, rows, answers = lengths
    orders = [np.argsort(keys, kind="stable") for keys in (-rows, rows, -answers)]
    save_array(folder / ORDERS, np.stack(orders).astype(np.int32))


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file atomically."""
    replace_file(path, lambda part: np.save(part, array))


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file with the same suffix, then move it to `path`."""
    handle, part = tempfile.mkstemp(prefix=".part-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        write(Path(part))
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)
