"""Rows from Parquet, a few at a time; what the values become is columnar.py."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trainer_backend.data.columnar import BATCH_ROWS, ColumnRows, unreadable
from trainer_backend.data.read_options import DamageLog
from trainer_backend.data.source import Source
from trainer_backend.errors import UserError

MAX_FOOTER = 16 * 1024 * 1024  # bytes: with 1,000 columns about 80 row groups


def read_parquet(source: Source, damage: DamageLog) -> Iterator[tuple[int, dict]]:
    """(row number, row) of a Parquet file."""
    made = None
    with source.seekable() as file:
        _check_footer(source, file)
        try:
            with pq.ParquetFile(file) as parquet:
                made = ColumnRows(source, parquet.schema_arrow, damage)
                size = BATCH_ROWS if _is_plain(parquet) else 1
                for batch in parquet.iter_batches(batch_size=size, use_threads=False):
                    yield from made.rows(batch)
                    source.share = made.number / max(1, parquet.metadata.num_rows)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            if made:
                raise made.unreadable("Parquet", error) from None
            raise unreadable("Parquet", source.name, error) from None


def _check_footer(source: Source, file: Path) -> None:
    """Refuse a footer that would not fit the memory before all of it is decoded."""
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - 8))
        length = int.from_bytes(stream.read(4), "little")
    if MAX_FOOTER < length < size:
        what = "The Parquet file describes too many columns or row groups."
        raise UserError(what, source.name, "Keep only the columns that matter.")


def _is_plain(file: pq.ParquetFile) -> bool:
    """Whether the footer's sizes allow reading many rows at once."""
    sizes = [
        group.total_byte_size / max(1, group.num_rows)
        for group in map(file.metadata.row_group, range(file.metadata.num_row_groups))
    ]
    return max(sizes, default=0) < 1 << 18
