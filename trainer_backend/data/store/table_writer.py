"""The two tables of a dataset folder, written a row group at a time so that memory stays flat.

What goes into them is dataset_writer.py; they are read in row_pages.py.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

GROUP_ROWS, GROUP_CHARS = 4_096, 2 * 1024 * 1024
ROWS_SCHEMA = pa.schema([("row", pa.int64()), ("cells", pa.string())])
EXAMPLES_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("messages", pa.string()),
        ("text", pa.string()),
        ("tools", pa.string()),
        ("images", pa.string()),
        ("digest", pa.int64()),
    ]
)


class GroupWriter:
    """Writes tuples to a Parquet file, a row group at a time."""

    def __init__(self, path: Path, schema: pa.Schema):
        self.schema, self.rows, self.size, self.count = schema, [], 0, 0
        # long texts hardly repeat, and a search has to unpack all of them: quick beats small
        self.writer = pq.ParquetWriter(path, schema, compression="lz4", use_dictionary=False)

    def add(self, row: tuple, size: int) -> None:
        """Add one row of about `size` characters."""
        self.rows.append(row)
        self.size += size
        self.count += 1
        if len(self.rows) >= GROUP_ROWS or self.size >= GROUP_CHARS:
            self._flush()

    def _flush(self) -> None:
        if self.rows:
            arrays = [
                pa.array(cells, type=field.type)
                for cells, field in zip(zip(*self.rows, strict=True), self.schema, strict=True)
            ]
            self.writer.write_table(pa.Table.from_arrays(arrays, schema=self.schema))
        self.rows, self.size = [], 0

    def __enter__(self) -> "GroupWriter":
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self._flush()
        self.writer.close()
