"""One file as bytes (plain, gzip, or an entry of a zip archive), and its budget of decoded bytes.

What the bytes mean is not known here.
"""

import gzip
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from trainer_backend.errors import UserError

BUDGET_BASE = 256 * 1024 * 1024  # decoded bytes that any file may have
BUDGET_RATIO, GZIP_RATIO = 100, 30  # decoded bytes for each stored one, beyond the base
GZIP_MAGIC = b"\x1f\x8b"
BROKEN = (OSError, EOFError, zlib.error, zipfile.BadZipFile)  # what reading damaged bytes raises


class Source:
    """A file or an entry of an archive; `name` is its name in messages."""

    def __init__(
        self,
        path: Path,
        archive: zipfile.ZipFile | None = None,
        entry: zipfile.ZipInfo | None = None,
    ):
        self.path, self._archive, self._entry = Path(path), archive, entry
        self.file_name = entry.filename if entry else self.path.name
        self.name = f"{self.path.name}: {entry.filename}" if entry else self.path.name
        self.fraction = 0.0  # read so far, set by readers that do not read from front to back
        self._raw: IO[bytes] | None = None
        self._gzipped = False

    @property
    def ending(self) -> str:
        """The file name's suffix before “.gz”, in lower case: ".csv"."""
        return Path(self.file_name.lower().removesuffix(".gz")).suffix

    @property
    def size(self) -> int:
        """Bytes of the file, or of the unpacked entry: the end of position()."""
        return self._entry.file_size if self._entry else self.path.stat().st_size

    def position(self) -> int:
        """Bytes read so far."""
        raw = self._raw
        if self.fraction or raw is None or raw.closed:
            return int(self.fraction * self.size)
        return raw.tell()

    def budget(self) -> int:
        """How many bytes the file may decode to; call it after open(), which detects gzip."""
        stored = self._entry.compress_size if self._entry else self.path.stat().st_size
        return BUDGET_BASE + (GZIP_RATIO if self._gzipped else BUDGET_RATIO) * stored

    def open(self) -> IO[bytes]:
        """Open for reading, through gzip if the content is gzip. Raises UserError."""
        raw = self._open_raw()
        self._raw = raw
        head = self.read(raw, 2)
        raw.seek(0)
        self._gzipped = head == GZIP_MAGIC
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw, mode="rb")) if self._gzipped else raw

    def _open_raw(self) -> IO[bytes]:
        try:
            if self._archive and self._entry:
                return self._archive.open(self._entry)
            return self.path.open("rb")
        except FileNotFoundError:
            fix = "Check the name, or upload the file again."
            raise UserError("The file was not found.", self.name, fix) from None
        except (OSError, zipfile.BadZipFile, RuntimeError) as error:  # RuntimeError: by zipfile
            reason = getattr(error, "strerror", "") or "it cannot be opened"
            what = f"The file cannot be read: {reason}."
            raise UserError(what, self.name, "Check its permissions.") from None

    def head(self, size: int = 4096) -> bytes:
        """The first bytes, decompressed. Raises UserError."""
        with self.open() as stream:
            return self.read(stream, size)

    @contextmanager
    def seekable(self) -> Iterator[Path]:
        """The path of the decompressed file, for readers that seek: itself, or a temporary copy."""
        with self.open() as stream:
            if not self._archive and stream is self._raw:
                yield self.path
                return
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / f"unpacked{self.ending}"
                with copy.open("wb") as out:
                    self._unpack(stream, out)
                yield copy

    def _unpack(self, stream: IO[bytes], copy: IO[bytes]) -> None:
        budget, done = self.budget(), 0
        while piece := self.read(stream, 1 << 20):
            done += len(piece)
            if done > budget:
                raise self.over_budget(budget)
            self._write(copy, piece)

    def read(self, stream: IO[bytes], size: int) -> bytes:
        """Read a piece. Raises UserError if the compressed bytes are damaged."""
        try:
            return stream.read(size)
        except BROKEN:
            raise self.broken() from None

    def _write(self, copy: IO[bytes], piece: bytes) -> None:
        try:
            copy.write(piece)
        except OSError as error:
            what = f"The file cannot be unpacked: {error.strerror}."
            fix = "Free some disk space, or unpack the file first."
            raise UserError(what, self.name, fix, code="disk_full") from None

    def broken(self) -> UserError:
        """The error for damaged or incomplete compression."""
        fix = "Upload it again, or unpack it first."
        return UserError("The compressed file is damaged or cut off.", self.name, fix)

    def over_budget(self, size: int) -> UserError:
        """The error for a file that decodes to more than its budget (a decompression bomb)."""
        return UserError(
            f"The file unpacks to more than {size // 2**20:,} MB.",
            self.name,
            "Files that grow this much are refused. Save the data without compression.",
        )
