"""Rows from Parquet, a few at a time, under a budget of decoded bytes.

Values become what JSON can hold (text, numbers, lists, objects); dates become their ISO text.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainer_backend.data.json_values import MAX_COLUMNS, MAX_DEPTH
from trainer_backend.data.text_reader import MAX_LINE, decoded_budget, over_budget
from trainer_backend.errors import UserError

BATCH_ROWS = 64  # few: the footer's sizes say nothing about rows that repeat a huge text


def read_parquet(path: Path) -> Iterator[tuple[int, dict]]:
    """(row number, row) of a Parquet file."""
    name = path.name
    budget, decoded, number = decoded_budget(path), 0, 0
    try:
        with pq.ParquetFile(path) as file:
            columns = _check_columns(file.schema_arrow, name)
            rows = BATCH_ROWS if _is_plain(file) else 1
            for batch in file.iter_batches(batch_size=rows, use_threads=False):
                cells_of = [_decoded(column) for column in batch.columns]
                decoded += sum(column.nbytes for column in cells_of)
                if decoded > budget:
                    raise over_budget(name, budget)
                for cells in zip(*(column.to_pylist() for column in cells_of), strict=True):
                    number += 1
                    yield number, _row(columns, cells, f"{name}, row {number}")
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = "a text is not UTF-8" if isinstance(error, UnicodeError) else _first_line(error)
        where = f"{name}, after row {number}" if number else name
        fix = "It is damaged, cut off or encrypted. Export it again."
        raise UserError(f"The Parquet file cannot be read: {reason}.", where, fix) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120].rstrip(".")


def _decoded(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        return column.dictionary_decode()
    is_time = pa.types.is_temporal(column.type) and not pa.types.is_duration(column.type)
    return column.cast(pa.string()) if is_time else column  # all of its digits, as text


def _is_plain(file: pq.ParquetFile) -> bool:
    """Whether the footer's sizes allow reading many rows at once."""
    sizes = [
        group.total_byte_size / max(1, group.num_rows)
        for group in map(file.metadata.row_group, range(file.metadata.num_row_groups))
    ]
    return max(sizes, default=0) < 1 << 18


def _check_columns(schema: pa.Schema, name: str) -> list[str]:
    columns = schema.names
    if len(columns) > MAX_COLUMNS:
        raise UserError(
            f"The file has {len(columns):,} columns, more than {MAX_COLUMNS:,}.",
            name,
            "Keep only the columns that matter.",
        )
    if len(set(columns)) != len(columns):
        twice = next(column for column in columns if columns.count(column) > 1)
        raise UserError(
            f"Two columns have the same name “{twice[:60]}”.", name, "Rename one of them."
        )
    return columns


def _row(columns: list[str], cells: tuple, where: str) -> dict:
    row = {}
    for column, cell in zip(columns, cells, strict=True):
        if isinstance(cell, str) and "\0" not in cell and len(cell) <= MAX_LINE:
            row[column] = cell
        else:
            row[column] = _exact(cell, f"{where}, column “{column[:60]}”", 1)
    return row


def _exact(value: Any, where: str, depth: int) -> Any:
    """A value as JSON can hold it; refuse what would lose something."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return _checked_text(value, where)
    if depth > MAX_DEPTH:
        raise UserError(
            f"The value is nested deeper than {MAX_DEPTH} levels.", where, "Flatten the data."
        )
    if isinstance(value, list | tuple):
        return [_exact(item, where, depth + 1) for item in value]
    if isinstance(value, dict):
        return {str(key): _exact(item, where, depth + 1) for key, item in value.items()}
    if isinstance(value, bytes):
        raise UserError(
            "The column holds binary data, not text.",
            where,
            "Save the column as text, or remove it.",
        )
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _checked_text(value: str, where: str) -> str:
    if "\0" in value:
        raise UserError("The text holds a NUL character.", where, "Remove the character.")
    if len(value) > MAX_LINE:
        raise UserError("The text is longer than 16 MB.", where, "Split the row.")
    return value
