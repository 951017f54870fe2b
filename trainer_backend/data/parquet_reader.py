"""Rows from Parquet, a few at a time; what the values become is columnar.py."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from trainer_backend.data.columnar import BATCH_ROWS, ColumnRows, unreadable
from trainer_backend.data.read_options import DamageLog
from trainer_backend.data.source import Source


def read_parquet(source: Source, damage: DamageLog) -> Iterator[tuple[int, dict]]:
    """(row number, row) of a Parquet file."""
    made = None
    with source.seekable() as file:
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


def _is_plain(file: pq.ParquetFile) -> bool:
    """Whether the footer's sizes allow reading many rows at once."""
    sizes = [
        group.total_byte_size / max(1, group.num_rows)
        for group in map(file.metadata.row_group, range(file.metadata.num_row_groups))
    ]
    return max(sizes, default=0) < 1 << 18
