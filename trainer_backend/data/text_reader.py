"""Bytes to lines of exact text: encoding, gzip, limits, and where a broken byte sits.

Nothing here knows CSV or JSON; the readers for those ask this room for lines or chunks.
"""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from trainer_backend.errors import UserError

MAX_LINE = 16 * 1024 * 1024  # characters in one line, or in one record that spans lines
BUDGET_BASE, BUDGET_RATIO = 256 * 1024 * 1024, 100  # a small file that unpacks to more is a bomb
GZIP_MAGIC = b"\x1f\x8b"
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with the UTF-16 one
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SPOKEN = {"utf-8-sig": "UTF-8 with a byte order mark"}


def detect_encoding(head: bytes) -> str:
    """Name the encoding by its mark, or UTF-16 by its zero bytes; else it must be UTF-8."""
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    sample = head[: len(head) // 2 * 2][:4096]
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if len(sample) >= 4 and max(even, odd) > 0.3 * len(sample) / 2 and min(even, odd) == 0:
        return "utf-16-le" if odd else "utf-16-be"
    return "utf-8"


def spoken_encoding(encoding: str) -> str:
    """The encoding as a person reads it: "UTF-16", "UTF-8 with a byte order mark"."""
    return _SPOKEN.get(encoding, encoding.upper())


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading, through gzip if its content says so."""
    try:
        raw = path.open("rb")
    except FileNotFoundError:
        raise UserError(
            "The file was not found.", path.name, "Check the name, or upload the file again."
        ) from None
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
        raise UserError(
            f"The file cannot be read: {reason}.", path.name, "Check its permissions."
        ) from None
    if raw.read(2) == GZIP_MAGIC:
        raw.seek(0)
        return gzip.GzipFile(fileobj=raw, mode="rb")
    raw.seek(0)
    return raw


def read_head(path: Path, size: int = 4096) -> bytes:
    """The first bytes of a file, unpacked if it is a gzip file."""
    with open_bytes(path) as stream:
        try:
            return stream.read(size)
        except (OSError, EOFError, zlib.error):
            raise broken_gzip(path.name) from None


def broken_gzip(name: str) -> UserError:
    """The error for a gzip file that ends early or is damaged."""
    return UserError(
        "The compressed file is damaged or cut off.", name, "Upload it again, or unpack it first."
    )


def over_budget(name: str, size: int) -> UserError:
    """The error for a small file that unpacks to far too much."""
    return UserError(
        f"The file unpacks to more than {size // 2**20:,} MB.",
        name,
        "Files that grow this much are refused. Save the data without compression.",
    )


def decoded_budget(path: Path) -> int:
    """How many decoded bytes a file of this size may become."""
    return BUDGET_BASE + BUDGET_RATIO * path.stat().st_size


class TextFile:
    """A file as lines or chunks of decoded text; every error names the file and the line."""

    def __init__(self, path: Path):
        self.path, self.name = path, path.name
        head = read_head(path)
        self.encoding = detect_encoding(head)
        self.line = 0  # the line handed out last
        self._budget = decoded_budget(path)
        self._raw: BinaryIO | None = None

    def position(self) -> int:
        """How many bytes of the stored file have been read, for progress."""
        raw = getattr(self._raw, "fileobj", None) or self._raw
        return raw.tell() if raw and not raw.closed else 0

    def lines(self) -> Iterator[str]:
        """Every line with its line ending, exactly as it stands in the file."""
        seen = 0
        self.line = 0
        for line in self._pull(lambda text: text.readline(MAX_LINE + 1)):
            self.line += 1
            seen += len(line)
            if len(line) > MAX_LINE:
                raise self.error("A line is longer than 16 MB.", "Put each row on its own line.")
            if seen > self._budget:
                raise over_budget(self.name, self._budget)
            yield line

    def chunks(self, size: int = 1 << 20) -> Iterator[str]:
        """The text in large pieces, for readers that do not go line by line."""
        seen = 0
        for chunk in self._pull(lambda text: text.read(size)):
            seen += len(chunk)
            if seen > self._budget:
                raise over_budget(self.name, self._budget)
            yield chunk

    def error(self, what: str, fix: str, line: int | None = None) -> UserError:
        """A UserError that points at a line of this file."""
        return UserError(what, f"{self.name}, line {line or self.line}", fix)

    def _pull(self, read) -> Iterator[str]:
        with open_bytes(self.path) as stream:
            self._raw = stream
            text = io.TextIOWrapper(stream, encoding=self.encoding, newline="")
            while True:
                try:
                    piece = read(text)
                except UnicodeDecodeError:
                    raise self._undecodable() from None
                except (OSError, EOFError, zlib.error):
                    if not isinstance(stream, gzip.GzipFile):
                        raise
                    raise broken_gzip(self.name) from None
                if not piece:
                    return
                yield piece

    def _undecodable(self) -> UserError:
        where = f"{self.name}, " + (
            self._bad_byte() if "utf-8" in self.encoding else "near its end"
        )
        return UserError(
            f"The text is not {spoken_encoding(self.encoding)}.",
            where,
            "Save the file as UTF-8 (in a spreadsheet: “CSV UTF-8”) and upload it again.",
        )

    def _bad_byte(self) -> str:
        number, within = 1, 0
        with open_bytes(self.path) as stream:
            while piece := stream.readline(MAX_LINE):
                try:
                    piece.decode("utf-8")
                except UnicodeDecodeError as error:
                    good = piece[: error.start]
                    number += good.count(b"\r")
                    within = within * (b"\r" not in good) + len(good) - (good.rfind(b"\r") + 1)
                    return f"line {number}, byte {within + 1}"
                number += piece.count(b"\r") - piece.count(b"\r\n") + piece.endswith(b"\n")
                within = 0 if piece.endswith(b"\n") else within + len(piece)
        return f"line {number}"
