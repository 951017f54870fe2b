"""Bytes to lines or chunks of exact text: encoding, limits, and the place of a bad byte.

CSV and JSON are not known here.
"""

import codecs
import io
import re
from collections.abc import Callable, Iterator
from typing import Any

from trainer_backend.data.readers.options import ENCODINGS, MAX_LINE, DamageLog
from trainer_backend.data.readers.source import BROKEN, Source
from trainer_backend.errors import UserError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_KEPT_BYTE = re.compile("[\udc80-\udcff]")  # a bad byte under “surrogateescape” (PEP 383)
_C1 = re.compile(rb"[\x80-\x9f]")
_UNUSED_IN_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")


def detect_encoding(head: bytes) -> str:
    """The encoding by byte order mark, or UTF-16 by its zero bytes (RFC 4627, 3); else UTF-8."""
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    sample = head[: len(head) // 2 * 2][:4096]
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if len(sample) >= 4 and max(even, odd) > 0.3 * len(sample) / 2 and min(even, odd) == 0:
        return "utf-16-le" if odd else "utf-16-be"
    return "utf-8"


def encoding_name(encoding: str) -> str:
    """The encoding in a sentence: "UTF-16", "UTF-8 with a byte order mark"."""
    if encoding == "utf-8-sig":
        return "UTF-8 with a byte order mark"
    return ENCODINGS.get(encoding) or encoding.upper()


class TextFile:
    """A source as decoded text; its errors name the file and the line."""

    def __init__(
        self, source: Source, encoding: str | None = None, damage: DamageLog | None = None
    ):
        self.source, self.name = source, source.name
        found = detect_encoding(source.head())
        if encoding is None or (encoding in ("utf-8", "utf-16") and found.startswith(encoding)):
            encoding = found
        elif encoding == "utf-16":
            encoding = "utf-16-le"  # the usual one without a byte order mark
        self.encoding, self.damage = encoding, damage or DamageLog()
        self.line = 0  # the line that lines() yielded last
        self._budget = source.budget()
        self.keeps_bytes = self.damage.skip and encoding.startswith("utf-8")  # see undecoded()

    def lines(self) -> Iterator[str]:
        """Every line, unchanged and with its line ending. Raises UserError."""
        seen = 0
        self.line = 0
        for line in self._pull(lambda text: text.readline(MAX_LINE + 1)):
            self.line += 1
            seen += len(line)
            if len(line) > MAX_LINE:
                raise self.error("A line is longer than 16 MB.", "Put each row on its own line.")
            if seen > self._budget:
                raise self.source.over_budget(self._budget)
            yield line

    def chunks(self, size: int = 1 << 20) -> Iterator[str]:
        """The text in pieces of `size` characters. Raises UserError."""
        seen = 0
        for chunk in self._pull(lambda text: text.read(size)):
            seen += len(chunk)
            if seen > self._budget:
                raise self.source.over_budget(self._budget)
            yield chunk

    def error(self, what: str, fix: str, line: int | None = None) -> UserError:
        """A UserError at a line of this file, the current one by default."""
        return UserError(what, f"{self.name}, line {line or self.line}", fix)

    def undecoded(self, text: str) -> bool:
        """Whether a text holds bytes that are not UTF-8 (possible only when damage is skipped)."""
        return self.keeps_bytes and not text.isascii() and bool(_KEPT_BYTE.search(text))

    def not_decoded(self, line: int) -> UserError:
        """The error for a row with bytes that are not UTF-8."""
        fix = "Save the file as UTF-8 and upload it again, or choose its encoding."
        return self.error("The text is not UTF-8.", fix, line)

    def _pull(self, read: Callable[[io.TextIOWrapper], str]) -> Iterator[str]:
        errors = "surrogateescape" if self.keeps_bytes else "strict"
        with self.source.open() as stream:
            text = io.TextIOWrapper(stream, encoding=self.encoding, errors=errors, newline="")
            while True:
                try:
                    piece = read(text)
                except UnicodeError:
                    raise self._undecodable() from None
                except BROKEN:
                    raise self.source.broken() from None
                if not piece:
                    return
                yield piece

    def _undecodable(self) -> UserError:
        what = f"The text is not {encoding_name(self.encoding)}."
        if self.encoding.startswith(("utf-16", "utf-32")):
            fix = "Save the file as UTF-8 and upload it again."
            return UserError(what, f"{self.name}, near its end", fix, code="encoding")
        place, offer = self._bad_byte()
        fix = "Save the file as UTF-8 (in a spreadsheet: “CSV UTF-8”) and upload it again"
        other = offer.get("encoding")
        fix += f", or read it as {encoding_name(other)}." if other else ", or leave the row out."
        return UserError(what, f"{self.name}, {place}", fix, code="encoding", offer=offer)

    def _bad_byte(self) -> tuple[str, dict[str, Any]]:
        """The place of the first byte that cannot be decoded, and what the error offers."""
        number, within, ascii_so_far = 1, 0, True
        with self.source.open() as stream:
            while piece := stream.readline(MAX_LINE):
                try:
                    piece.decode(self.encoding)
                except UnicodeDecodeError as error:
                    good, rest = piece[: error.start], piece[error.start :]
                    number += good.count(b"\r")
                    within = within * (b"\r" not in good) + len(good) - (good.rfind(b"\r") + 1)
                    rest += stream.read(1 << 20)
                    offer = self._offer(ascii_so_far and good.isascii(), rest)
                    return f"line {number}, byte {within + 1}", offer
                ascii_so_far = ascii_so_far and piece.isascii()
                number += piece.count(b"\r") - piece.count(b"\r\n") + piece.endswith(b"\n")
                within = 0 if piece.endswith(b"\n") else within + len(piece)
        return f"line {number}", {"skip_damaged": True}

    def _offer(self, ascii_so_far: bool, rest: bytes) -> dict[str, Any]:
        """Another encoding, unless text beyond ASCII before it shows that the file is UTF-8.

        Bytes 0x80 to 0x9F are letters and quotes in Windows-1252, control codes in ISO 8859-1.
        """
        if not self.encoding.startswith("utf-8"):
            return {"encoding": "latin-1"}
        if not ascii_so_far:
            return {"skip_damaged": True}
        windows = _C1.search(rest) and not _UNUSED_IN_CP1252.search(rest)
        return {"encoding": "cp1252" if windows else "latin-1"}
