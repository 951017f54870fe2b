"""One stored file as bytes: plain, inside gzip, or an entry of a zip archive; and its budget.

Nothing here knows what the bytes mean. Which entries of an archive may be read is archive.py.
"""

import gzip
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from trainer_backend.errors import UserError

BUDGET_BASE = 256 * 1024 * 1024  # a small file that unpacks to more is a bomb
BUDGET_RATIO, GZIP_RATIO = 100, 30  # gzip is slow to unpack, and text seldom shrinks to a tenth
GZIP_MAGIC = b"\x1f\x8b"
BROKEN = (OSError, EOFError, zlib.error, zipfile.BadZipFile)  # what reading damaged bytes raises


class Source:
    """A file or an entry of an archive; `name` is what messages call it."""

    def __init__(
        self,
        path: Path,
        archive: zipfile.ZipFile | None = None,
        entry: zipfile.ZipInfo | None = None,
    ):
        self.path, self.archive, self.entry = Path(path), archive, entry
        self.file_name = entry.filename if entry else self.path.name
        self.name = f"{self.path.name}: {entry.filename}" if entry else self.path.name
        self.share = 0.0  # how much has been read, for readers that do not read from the front
        self._raw: BinaryIO | None = None
        self._gzipped = False

    @property
    def ending(self) -> str:
        """The last ending of the name without “.gz”, in small letters: “.csv”."""
        return Path(self.file_name.lower().removesuffix(".gz")).suffix

    @property
    def size(self) -> int:
        """Bytes as stored, or as an archive unpacks them: what position() counts up to."""
        return self.entry.file_size if self.entry else self.path.stat().st_size

    def position(self) -> int:
        """How many bytes have been read, for progress."""
        raw = self._raw
        if self.share or raw is None or raw.closed:
            return int(self.share * self.size)
        return raw.tell()

    def budget(self) -> int:
        """How many decoded bytes this may become; asked once it has been opened."""
        stored = self.entry.compress_size if self.entry else self.path.stat().st_size
        return BUDGET_BASE + (GZIP_RATIO if self._gzipped else BUDGET_RATIO) * stored

    def open(self) -> BinaryIO:
        """Open for reading, through gzip if the content says so; UserError if it cannot be."""
        raw = self._open_raw()
        self._raw = raw
        head = self.read(raw, 2)
        raw.seek(0)
        self._gzipped = head == GZIP_MAGIC
        if self._gzipped:
            return gzip.GzipFile(fileobj=raw, mode="rb")
        return raw

    def _open_raw(self) -> BinaryIO:
        try:
            return self.archive.open(self.entry) if self.archive else self.path.open("rb")
        except FileNotFoundError:
            fix = "Check the name, or upload the file again."
            raise UserError("The file was not found.", self.name, fix) from None
        except (OSError, zipfile.BadZipFile, RuntimeError) as error:  # Runtime: of entries alone
            reason = getattr(error, "strerror", "") or "it cannot be opened"
            what = f"The file cannot be read: {reason}."
            raise UserError(what, self.name, "Check its permissions.") from None

    def head(self, size: int = 4096) -> bytes:
        """The first bytes, unpacked."""
        with self.open() as stream:
            return self.read(stream, size)

    @contextmanager
    def seekable(self) -> Iterator[Path]:
        """The unpacked file for readers that jump about: itself, or a copy under the budget."""
        with self.open() as stream:
            if not self.archive and stream is self._raw:
                yield self.path
                return
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / f"unpacked{self.ending}"
                with copy.open("wb") as out:
                    self._unpack(stream, out)
                yield copy

    def _unpack(self, stream: BinaryIO, copy: BinaryIO) -> None:
        budget, done = self.budget(), 0
        while piece := self.read(stream, 1 << 20):
            done += len(piece)
            if done > budget:
                raise self.over_budget(budget)
            self._write(copy, piece)

    def read(self, stream: BinaryIO, size: int) -> bytes:
        """Read a piece; UserError if the compressed bytes are damaged."""
        try:
            return stream.read(size)
        except BROKEN:
            raise self.broken() from None

    def _write(self, copy: BinaryIO, piece: bytes) -> None:
        try:
            copy.write(piece)
        except OSError as error:
            what = f"There is no room to unpack the file: {error.strerror}."
            fix = "Free some disk space, or unpack the file first."
            raise UserError(what, self.name, fix, code="disk_full") from None

    def broken(self) -> UserError:
        """The error for compressed bytes that end early or are damaged."""
        fix = "Upload it again, or unpack it first."
        return UserError("The compressed file is damaged or cut off.", self.name, fix)

    def over_budget(self, size: int) -> UserError:
        """The error for a small file that unpacks to far too much."""
        return UserError(
            f"The file unpacks to more than {size // 2**20:,} MB.",
            self.name,
            "Files that grow this much are refused. Save the data without compression.",
        )
