"""Rows from Parquet, a few at a time, after its decoded size has been checked.

The size is added up from the footer and, in a small file, from its dictionaries, where one long
text may be the value of thousands of cells. Format: https://parquet.apache.org/docs/file-format/
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainer_backend.data.readers.columnar.column_rows import BATCH_ROWS, ColumnRows, unreadable
from trainer_backend.data.readers.options import DamageLog
from trainer_backend.data.readers.source import Source
from trainer_backend.errors import UserError

MAX_FOOTER = 16 * 1024 * 1024  # bytes: with 1,000 columns about 80 row groups
SMALL = 8 * 1024 * 1024  # stored bytes; a larger file reaches its budget only after some reading
COUNTED_ROWS = 8_192  # decoded at a time to measure dictionaries
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def read_parquet(source: Source, damage: DamageLog) -> Iterator[tuple[int, dict]]:
    """(row number, row) for every row. Raises UserError if damaged or far too large."""
    made = None
    with source.seekable() as file:
        _check_footer(source, file)
        try:
            with pq.ParquetFile(file) as parquet:
                _check_sizes(source, parquet.metadata)
            _check_dictionaries(source, file)
            with pq.ParquetFile(file) as parquet:
                made = ColumnRows(source, parquet.schema_arrow, damage)
                size = BATCH_ROWS if _is_plain(parquet) else 1
                for batch in parquet.iter_batches(batch_size=size, use_threads=False):
                    yield from made.rows(batch)
                    source.fraction = made.number / max(1, parquet.metadata.num_rows)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            if made:
                raise made.unreadable("Parquet", error) from None
            raise unreadable("Parquet", source.name, error) from None


def _check_footer(source: Source, file: Path) -> None:
    """Raise UserError for a huge footer, whose decoding alone could exhaust the memory."""
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - 8))
        length = int.from_bytes(stream.read(4), "little")
    if MAX_FOOTER < length < size:
        what = "The Parquet file describes too many columns or row groups."
        raise UserError(what, source.name, "Keep only the columns that matter.")


def _groups(metadata: pq.FileMetaData) -> Iterator[pq.RowGroupMetaData]:
    """The row groups. Asking one for an encrypted column would abort the process."""
    return map(metadata.row_group, range(metadata.num_row_groups))


def _check_sizes(source: Source, metadata: pq.FileMetaData) -> None:
    """Raise UserError if the columns unpack to more than the budget, according to the footer."""
    budget = source.budget()
    if sum(max(0, group.total_byte_size) for group in _groups(metadata)) > budget:
        raise source.over_budget(budget)


def _check_dictionaries(source: Source, file: Path) -> None:
    """Raise UserError for a small file whose dictionaries expand to more than the budget."""
    if file.stat().st_size > SMALL:
        return
    budget, decoded = source.budget(), 0
    columns = _text_columns(pq.read_metadata(file))
    if not columns:
        return
    with pq.ParquetFile(file, read_dictionary=columns) as parquet:
        for batch in parquet.iter_batches(COUNTED_ROWS, columns=columns, use_threads=False):
            decoded += sum(map(_text_size, batch.columns))
            if decoded > budget:
                raise source.over_budget(budget)


def _text_columns(metadata: pq.FileMetaData) -> list[str]:
    """The paths of all columns, nested ones included, with values of variable length."""
    return [
        one.path
        for one in map(metadata.schema.column, range(metadata.num_columns))
        if one.physical_type == "BYTE_ARRAY" and one.logical_type.type != "DECIMAL"
    ]


def _text_size(column: pa.Array) -> int:
    """Decoded bytes of the dictionary texts in a column, its lists and its objects."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        sizes = pc.binary_length(column.dictionary).take(column.indices)
        return pc.sum(pc.cast(sizes, pa.int64())).as_py() or 0
    if pa.types.is_struct(kind):
        return sum(map(_text_size, column.flatten()))
    if pa.types.is_map(kind):
        first, last = column.offsets[0].as_py(), column.offsets[-1].as_py()
        return sum(_text_size(part[first:last]) for part in (column.keys, column.items))
    if any(is_list(kind) for is_list in _LISTS):
        return _text_size(column.flatten())
    return 0


def _is_plain(file: pq.ParquetFile) -> bool:
    """Whether rows are small enough, by the footer, to read many at once."""
    sizes = [group.total_byte_size / max(1, group.num_rows) for group in _groups(file.metadata)]
    return max(sizes, default=0) < 1 << 18
