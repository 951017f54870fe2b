"""Rows from Arrow IPC files and streams, and from Feather.

A compressed batch is unpacked at once, so the sizes that its buffers declare are added up first.
Format: https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

import struct
from collections.abc import Iterator

import pyarrow as pa

from trainer_backend.data.readers.columnar.column_rows import ColumnRows, unreadable
from trainer_backend.data.readers.options import DamageLog
from trainer_backend.data.readers.source import Source
from trainer_backend.errors import UserError

MAGIC = b"ARROW1"
STREAM_MAGIC = b"\xff\xff\xff\xff"
MAX_BATCH = 512 * 1024 * 1024  # bytes that one batch may unpack to
_DICTIONARY = 2  # DictionaryBatch among the message headers of the format's Message.fbs


def read_arrow(source: Source, damage: DamageLog) -> Iterator[tuple[int, dict]]:
    """(row number, row) for every row. Raises UserError if damaged or far too large."""
    made = None
    with source.seekable() as file:
        try:
            is_file = source.head(len(MAGIC)) == MAGIC
            with pa.memory_map(str(file)) as raw:
                _check_sizes(raw, 8 if is_file else 0, source)
            with pa.memory_map(str(file)) as raw:
                reader = pa.ipc.open_file(raw) if is_file else pa.ipc.open_stream(raw)
                made = ColumnRows(source, reader.schema, damage)
                for batch, fraction in _batches(reader, None if is_file else raw):
                    batch.validate(full=True)  # else wrong offsets would be followed
                    yield from made.rows(batch)
                    source.fraction = fraction
        except (pa.ArrowException, OSError, ValueError, LookupError, struct.error) as error:
            if made:
                raise made.unreadable("Arrow", error) from None
            raise unreadable("Arrow", source.name, error) from None


def _batches(
    reader: pa.RecordBatchFileReader | pa.RecordBatchStreamReader, stream: pa.NativeFile | None
) -> Iterator[tuple[pa.RecordBatch, float]]:
    """(batch, fraction of the file read so far)."""
    if stream is None:
        for at in range(reader.num_record_batches):
            yield reader.get_batch(at), (at + 1) / reader.num_record_batches
        return
    for batch in reader:
        yield batch, min(1.0, stream.tell() / max(1, stream.size()))


def _check_sizes(raw: pa.NativeFile, start: int, source: Source) -> None:
    """Raise UserError if the batches unpack to more than the budget."""
    budget, decoded = source.budget(), 0
    raw.seek(start)
    for message in pa.ipc.MessageReader.open_stream(raw):
        if message.type not in ("record batch", "dictionary"):
            continue
        size = _decoded_size(message.metadata.to_pybytes(), message.body)
        decoded += size
        if decoded > budget:
            raise source.over_budget(budget)
        if size > MAX_BATCH:
            what = f"One batch of rows unpacks to more than {MAX_BATCH // 2**20} MB."
            raise UserError(what, source.name, "Save it in smaller batches, or as Parquet.")


def _decoded_size(metadata: bytes, body: pa.Buffer | None) -> int:
    """Bytes that the compressed buffers of a message declare to unpack to; 0 if uncompressed."""
    table = _Table(metadata, struct.unpack_from("<I", metadata)[0])
    kind, batch = table.byte(1), table.inner(2)
    if kind == _DICTIONARY and batch:
        batch = batch.inner(1)
    if batch is None or body is None or batch.inner(3) is None:
        return 0
    total = 0
    for offset, length in batch.pairs(2):
        if length >= 8:
            total += max(length, struct.unpack("<q", body[offset : offset + 8].to_pybytes())[0])
    return total


class _Table:
    """A FlatBuffers table, read by field number (https://flatbuffers.dev/internals/)."""

    def __init__(self, data: bytes, at: int):
        self.data, self.at = data, at
        self.fields = at - struct.unpack_from("<i", data, at)[0]

    def _place(self, number: int) -> int:
        slot = 4 + 2 * number
        if slot >= struct.unpack_from("<H", self.data, self.fields)[0]:
            return 0
        offset = struct.unpack_from("<H", self.data, self.fields + slot)[0]
        return self.at + offset if offset else 0

    def byte(self, number: int) -> int:
        place = self._place(number)
        return self.data[place] if place else 0

    def _target(self, number: int) -> int:
        place = self._place(number)
        return place + struct.unpack_from("<I", self.data, place)[0] if place else 0

    def inner(self, number: int) -> "_Table | None":
        target = self._target(number)
        return _Table(self.data, target) if target else None

    def pairs(self, number: int) -> list[tuple[int, int]]:
        """A vector of (int64, int64) structs."""
        target = self._target(number)
        if not target:
            return []
        count = struct.unpack_from("<I", self.data, target)[0]
        numbers = struct.unpack_from(f"<{2 * count}q", self.data, target + 4)
        return list(zip(numbers[::2], numbers[1::2], strict=True))
