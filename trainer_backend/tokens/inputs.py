"""Containers accepted as a dataset, turned into one: lists of rows, dicts of columns, streams.

What the columns mean is not known here, and no file is opened.
"""

import json
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any, TypeAlias, TypeGuard

import pyarrow as pa
from datasets import Dataset, IterableDataset

from trainer_backend.data.formats import SYNONYMS, plain_name
from trainer_backend.data.json_values import has_half_character, strings_of
from trainer_backend.errors import TrainingDataError

_NESTED = {
    *(name for role in ("messages", "prompt", "completion", "tools") for name in SYNONYMS[role]),
    "chat_template_kwargs",
}
AnyDataset: TypeAlias = Dataset | IterableDataset
Rows: TypeAlias = AnyDataset | Sequence[Mapping[str, Any]] | Mapping[str, Sequence]
_NO_TABLE = (pa.ArrowException, UnicodeEncodeError, OverflowError)


def as_dataset(data: Rows, name: str = "train") -> AnyDataset:
    """Turn a list of dicts or a dict of columns into a Dataset; a dataset is returned as it is.

    Nested cells whose shape differs between rows (content as text and as parts) become JSON text,
    and those with calls: a table would give every call the arguments of all, as nulls.
    Raises TrainingDataError naming the row that does not fit the others, TypeError for any other
    container. `name` is used in errors.
    """
    if isinstance(data, Dataset | IterableDataset):
        return data
    try:
        if isinstance(data, Mapping):
            return Dataset.from_dict(dict(data))
        if isinstance(data, list | tuple) and all(isinstance(row, Mapping) for row in data):
            rows = _calls_as_text(data) if any(map(_has_calls, data)) else data
            return Dataset.from_list([dict(row) for row in rows])
    except _NO_TABLE:
        return _one_table(_rows_of(data, name), name)
    raise TypeError(
        f"The {name} dataset must be a Dataset, an IterableDataset, a list of dicts or a dict "
        f"of columns, not {type(data).__name__}."
    )


def _rows_of(data: Sequence[Mapping] | Mapping[str, Sequence], name: str) -> list[dict]:
    if not isinstance(data, Mapping):
        return [dict(row) for row in data]
    lengths = {column: len(cells) for column, cells in data.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{column} {count}" for column, count in lengths.items())
        raise TrainingDataError(
            f"The columns have different lengths: {listed}.",
            f"{name} dataset",
            "Give every column the same number of values.",
        )
    return [dict(zip(data, cells, strict=True)) for cells in zip(*data.values(), strict=True)]


def _one_table(rows: list[dict], name: str) -> Dataset:
    try:
        return Dataset.from_list([_flattened(row) for row in rows])
    except _NO_TABLE as error:
        raise _misfit(rows, name) or TrainingDataError(
            f"The rows do not fit into one table: {error}.",
            f"{name} dataset",
            "Give the cells of a column one type.",
        ) from error


def _flattened(row: Mapping) -> dict:
    return {key: json.dumps(cell) if _may_differ(key, cell) else cell for key, cell in row.items()}


def _has_calls(row: Mapping) -> bool:
    """Whether a message of a row calls a function."""
    lists = (cell for cell in row.values() if isinstance(cell, list))
    return any(isinstance(one, Mapping) and one.get("tool_calls") for c in lists for one in c)


def _calls_as_text(rows: Sequence[Mapping]) -> Sequence[Mapping]:
    """The rows with nested cells as JSON text; as they are where one holds more than JSON."""
    try:
        return [_flattened(row) for row in rows]
    except (TypeError, ValueError):
        return rows


def _may_differ(column: str, cell: object) -> bool:
    return isinstance(cell, list | dict) and plain_name(column) in _NESTED


def _misfit(rows: list[dict], name: str) -> TrainingDataError | None:
    """The error for the first row with a lone surrogate, or a cell of another type than before."""
    kinds: dict[str, str] = {}
    for at, row in enumerate(rows, start=1):
        where = f"{name} dataset, row {at}"
        if any(map(has_half_character, strings_of(dict(row)))):
            what = "A text contains half a character (a lone surrogate)."
            return TrainingDataError(what, where, "Write the whole character, or remove it.")
        for column, cell in row.items():
            kind = kinds.setdefault(column, _kind(cell)) if cell is not None else None
            if kind and kind != _kind(cell):
                what = f"“{column}” is {cell!r:.60} here, and {kind} in earlier rows."
                return TrainingDataError(what, where, "Give the cells of a column one type.")
    return None


def _kind(cell: object) -> str:
    if isinstance(cell, str):
        return "text"
    if isinstance(cell, list | tuple | dict):
        return "a list" if not isinstance(cell, dict) else "an object"
    return "a number" if isinstance(cell, Number) else type(cell).__name__


def holds_datasets(data: object) -> TypeGuard[Mapping[str, Rows]]:
    """Whether a dict holds several datasets by name rather than columns."""
    if not isinstance(data, Mapping):
        return False
    parts = list(data.values())
    rows = [isinstance(part, list) and part and isinstance(part[0], Mapping) for part in parts]
    return any(row or not isinstance(part, list) for row, part in zip(rows, parts, strict=True))


def columns_of(dataset: AnyDataset) -> list[str]:
    """Column names of a dataset; a stream without any is read up to its first row."""
    if dataset.column_names is not None:
        return list(dataset.column_names)
    first = next(iter(dataset), None)
    return list(first or ())
