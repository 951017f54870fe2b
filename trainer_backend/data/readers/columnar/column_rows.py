"""Record batches of Arrow or Parquet files to rows, under a budget of decoded bytes.

Values become what JSON can hold (text, numbers, lists, objects), dates ISO 8601 text. Files are
not opened here.
"""

import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from trainer_backend.data.images import ImageBytes, to_image
from trainer_backend.data.json_values import MAX_COLUMNS, MAX_DEPTH
from trainer_backend.data.readers.options import MAX_LINE, DamageLog
from trainer_backend.data.readers.source import Source
from trainer_backend.errors import UserError

BATCH_ROWS = 64  # few: a huge text that many rows repeat takes little room on disk
_NAME = b"ARROW:extension:name"


class ColumnRows:
    """The rows of one file's batches; `number` and `decoded` count rows and decoded bytes.

    Raises UserError for a schema with repeated names, too many columns or extension types.
    """

    def __init__(self, source: Source, schema: pa.Schema, damage: DamageLog):
        self.source, self.damage = source, damage
        self.number, self.decoded, self.budget = 0, 0, source.budget()
        self.columns = _check_columns(schema, source.name)
        self.types = [_plain_type(one.type) for one in schema]

    def rows(self, batch: pa.RecordBatch) -> Iterator[tuple[int, dict]]:
        """(row number, row) of a batch; damaged rows are reported, UserError over the budget."""
        for start in range(0, batch.num_rows, BATCH_ROWS):
            part = batch.slice(start, BATCH_ROWS)
            cells_of = [
                column if column.type == type else column.cast(type)
                for column, type in zip(part.columns, self.types, strict=True)
            ]
            self.decoded += sum(column.nbytes for column in cells_of)
            if self.decoded > self.budget:
                raise self.source.over_budget(self.budget)
            for cells in zip(*(column.to_pylist() for column in cells_of), strict=True):
                self.number += 1
                try:
                    row = _row(self.columns, cells, f"{self.source.name}, row {self.number}")
                except UserError as error:
                    self.damage.report(self.number, error)
                else:
                    yield self.number, row

    def unreadable(self, kind: str, error: Exception) -> UserError:
        """The error for a file that pyarrow cannot read further."""
        where = f"{self.source.name}, after row {self.number}" if self.number else self.source.name
        return unreadable(kind, where, error)


def unreadable(kind: str, where: str, error: Exception) -> UserError:
    """The error for a file that is damaged, cut off or encrypted."""
    if isinstance(error, UnicodeError) or "UTF8" in str(error):
        reason = "a text is not UTF-8"
    elif isinstance(error, MemoryError):
        reason = "a part of it needs too much memory"
    else:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120].rstrip(".")
    fix = "It is damaged, cut off or encrypted. Export it again."
    return UserError(f"The {kind} file cannot be read: {reason}.", where, fix)


def _plain_type(type: pa.DataType) -> pa.DataType:
    """The type without dictionaries and views, so that its size is known; times as text."""
    if pa.types.is_dictionary(type):
        return _plain_type(type.value_type)
    if pa.types.is_temporal(type) and not pa.types.is_duration(type):
        return pa.string()  # keeps nanoseconds
    if pa.types.is_string_view(type):
        return pa.large_string()
    if pa.types.is_binary_view(type):
        return pa.large_binary()
    if pa.types.is_struct(type):
        return pa.struct([one.with_type(_inner(one.type)) for one in type])
    if pa.types.is_list(type) or pa.types.is_large_list(type):
        make = pa.list_ if pa.types.is_list(type) else pa.large_list
        return make(type.value_field.with_type(_inner(type.value_type)))
    return type


def _inner(type: pa.DataType) -> pa.DataType:
    return type if pa.types.is_temporal(type) else _plain_type(type)


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
    for one in schema:
        if strange := _extension(one):
            what = f"The column “{one.name[:60]}” has an extension type ({strange[:60]})."
            raise UserError(what, name, "Save the column as text, numbers or lists.")
    return columns


def _extension(one: pa.Field) -> str:
    """The name of an extension type in a field or nested in it; "" without one."""
    if _NAME in (one.metadata or {}):
        return one.metadata[_NAME].decode("utf-8", "replace")
    if isinstance(one.type, pa.BaseExtensionType):
        return one.type.extension_name
    inner = [one.type.field(at) for at in range(one.type.num_fields)]
    return next(filter(None, map(_extension, inner)), "")


def _row(columns: list[str], cells: tuple, where: str) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column, cell in zip(columns, cells, strict=True):
        if isinstance(cell, str) and "\0" not in cell and len(cell) <= MAX_LINE:
            row[column] = cell
        else:
            row[column] = _exact(cell, f"{where}, column “{column[:60]}”", 1)
    return row


def _exact(value: Any, where: str, depth: int) -> Any:
    """A value as JSON can hold it. Raises UserError if it cannot without loss."""
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
        if value.keys() == {"bytes", "path"} and isinstance(value["bytes"], bytes):
            return _image(value["bytes"], where, value["path"])  # an Image of the datasets library
        return {str(key): _exact(item, where, depth + 1) for key, item in value.items()}
    if isinstance(value, bytes):
        return _image(value, where)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _image(value: bytes, where: str, name: Any = None) -> ImageBytes:
    image = to_image(value, name if isinstance(name, str) else "")
    if image is None:
        raise UserError(
            "The column holds binary data, not text or an image.",
            where,
            "Save the column as text, or remove it.",
        )
    return image


def _checked_text(value: str, where: str) -> str:
    if "\0" in value:
        raise UserError("The text holds a NUL character.", where, "Remove the character.")
    if len(value) > MAX_LINE:
        raise UserError("The text is longer than 16 MB.", where, "Split the row.")
    return value
