"""Bytes to lines or chunks of exact text: encoding, limits, and the place of a bad byte.

CSV and JSON are not known here.
"""

import codecs
import io
import re
from collections.abc import Callable, Iterator
from typing import IO, Any

from trainer_backend.data.readers.encodings.guess import (
    Guess,
    escape_sequence,
    guesses,
    is_broken_utf8,
    preview_of,
)
from trainer_backend.data.readers.encodings.names import ENCODINGS, encoding_name
from trainer_backend.data.readers.options import MAX_LINE, DamageLog
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
_STRIP_ASCII = bytes(range(0x20, 0x7F)) + b"\t\r\n"
MAX_JUDGED, MAX_SEARCHED = 64 * 1024, 64 * 1024 * 1024  # bytes: to judge, to find them in


def detect_encoding(head: bytes) -> str:
    """The encoding by byte order mark, or UTF-16 and UTF-32 by their zero bytes; else UTF-8."""
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    return _wide_encoding(head[: len(head) // 4 * 4 or len(head) // 2 * 2]) or "utf-8"


def _wide_encoding(sample: bytes) -> str:
    """UTF-16 or UTF-32 without a mark, which text in other encodings never looks like; or "".

    ASCII characters have their zero bytes at even or at odd places (RFC 4627, 3). A stray zero
    byte among ASCII letters is damage.
    """
    if len(sample) < 4 or b"\0" not in sample:
        return ""
    for encoding in ("utf-32-le", "utf-32-be"):
        if _is_text(sample, encoding):
            return encoding
    zeros = {"utf-16-be": sample[0::2].count(0), "utf-16-le": sample[1::2].count(0)}
    unlike, likely = sorted(zeros, key=lambda one: zeros[one])
    many = zeros[likely] > 0.3 * len(sample) / 2
    if many and not zeros[unlike]:
        return likely
    strange = len(sample.replace(b"\0", b"").translate(None, _STRIP_ASCII)) > 0.1 * len(sample)
    return likely if (many or strange) and _is_text(sample, likely) else ""


def _is_text(sample: bytes, encoding: str) -> bool:
    """Whether the bytes decode to printable text; a cut character at the end does not count."""
    text = sample.decode(encoding, "replace")[:-1]
    return all(letter.isprintable() or letter in "\t\r\n\ufeff" for letter in text) and (
        "\ufffd" not in text
    )


class TextFile:
    """A source as decoded text; its errors name the file and the line."""

    def __init__(
        self, source: Source, encoding: str | None = None, damage: DamageLog | None = None
    ):
        self.source, self.name = source, source.name
        found = detect_encoding(source.head())
        by_mark = encoding in ("utf-8", "utf-16", "utf-32") and found.startswith(encoding)
        if encoding is None or by_mark:
            encoding = found
        elif encoding in ("utf-16", "utf-32"):
            encoding += "-le"  # the usual one without a byte order mark
        self.encoding, self.damage = encoding, damage or DamageLog()
        self.line = 0  # the line that lines() yielded last
        self._budget = source.budget()
        self.keeps_bytes = self.damage.skip and not self._is_wide  # see undecoded()

    @property
    def _is_wide(self) -> bool:
        return self.encoding.startswith(("utf-16", "utf-32"))

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
        """Whether a text holds bytes that were not decoded (only when damage is skipped)."""
        return self.keeps_bytes and not text.isascii() and bool(_KEPT_BYTE.search(text))

    def not_decoded(self, line: int) -> UserError:
        """The error for a row with bytes that are not in the encoding."""
        fix = "Save the file as UTF-8 and upload it again, or choose its encoding."
        return self.error(f"The text is not {encoding_name(self.encoding)}.", fix, line)

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
                if "\x1b" in piece and self.encoding == "utf-8" and escape_sequence(piece):
                    raise self._undecodable()
                yield piece

    def _undecodable(self) -> UserError:
        """Where the text cannot be decoded, and what it may be instead."""
        place, sample = self._bad_byte()
        what, where = f"The text is not {encoding_name(self.encoding)}.", f"{self.name}, {place}"
        if self.encoding.startswith("utf-8") and is_broken_utf8(sample):
            fix = "All else is UTF-8. Correct this place in a text editor, or leave the row out."
            offer: dict[str, Any] = {"skip_damaged": True}
            return UserError(what, where, fix, code="encoding", offer=offer)
        found = [one for one in self._other_encodings(sample) if one.encoding != self.encoding]
        fix = "Save the file as UTF-8 (in a spreadsheet: “CSV UTF-8”) and upload it again"
        if not found:
            offer = {} if self._is_wide else {"skip_damaged": True}
            fix += "." if self._is_wide else ", or leave the row out."
            return UserError(what, where, fix, code="encoding", offer=offer or None)
        best, *others = found
        fix += f", or read it as {best.name}: “{best.preview}”."
        if not self.encoding.startswith("utf-8"):
            fix = f"Read it as {best.name}: “{best.preview}”."
        offer = {"encoding": best.encoding, "preview": best.preview}
        offer["alternatives"] = [one.to_dict() for one in others]
        return UserError(what, where, fix, code="encoding", offer=offer)

    def _other_encodings(self, sample: bytes) -> list[Guess]:
        found = detect_encoding(sample)
        try:
            text = sample.decode(found)
        except UnicodeDecodeError:
            return guesses(sample)
        if found == "utf-8" and escape_sequence(text):
            return guesses(sample)
        name = found if found in ENCODINGS else found[:6].removesuffix("-")
        return [Guess(name, preview_of(text)), *guesses(sample)][:4]

    def _bad_byte(self) -> tuple[str, bytes]:
        """The place of the first byte that cannot be decoded, and lines beyond ASCII to judge."""
        if self._is_wide:
            with self.source.open() as stream:
                return "near its end", self.source.read(stream, MAX_JUDGED)
        number, within, sample = 1, 0, bytearray()
        with self.source.open() as stream:
            while piece := stream.readline(MAX_LINE):
                try:
                    text = piece.decode(self.encoding)
                except UnicodeDecodeError as error:
                    at: int | None = error.start
                else:
                    at = piece.find(b"\x1b") if escape_sequence(text) else None
                if at is not None:
                    good = piece[:at]
                    number += good.count(b"\r")
                    within = within * (b"\r" not in good) + len(good) - (good.rfind(b"\r") + 1)
                    sample += piece[:MAX_JUDGED]
                    sample += _lines_beyond_ascii(stream, MAX_JUDGED)
                    return f"line {number}, byte {within + 1}", bytes(sample)
                if not piece.isascii() and len(sample) < MAX_JUDGED:
                    sample += piece[:MAX_JUDGED]
                number += piece.count(b"\r") - piece.count(b"\r\n") + piece.endswith(b"\n")
                within = 0 if piece.endswith(b"\n") else within + len(piece)
        return f"line {number}", bytes(sample)


def _lines_beyond_ascii(stream: IO[bytes], size: int) -> bytes:
    """The next lines with bytes beyond ASCII (or an escape), about `size` bytes of them."""
    found, searched = bytearray(), 0
    while len(found) < size and searched < MAX_SEARCHED and (line := stream.readline(MAX_LINE)):
        searched += len(line)
        if not line.isascii() or b"\x1b" in line:
            found += line[:size]
    return bytes(found)
