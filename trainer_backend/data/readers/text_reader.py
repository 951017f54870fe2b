"""Bytes to lines of exact text: encoding, limits, and where a broken byte sits.

Nothing here knows CSV or JSON; the readers for those ask this room for lines or chunks.
"""

import codecs
import io
import re
from collections.abc import Iterator

from trainer_backend.data.readers.options import ENCODINGS, MAX_LINE, DamageLog
from trainer_backend.data.readers.source import BROKEN, Source
from trainer_backend.errors import UserError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with the UTF-16 one
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SPOKEN = {"utf-8-sig": "UTF-8 with a byte order mark"}
_KEPT_BYTE = re.compile("[\udc80-\udcff]")  # how the surrogateescape handler keeps a bad byte
_UNUSED_IN_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")


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
    return _SPOKEN.get(encoding) or ENCODINGS.get(encoding) or encoding.upper()


class TextFile:
    """A source as lines or chunks of decoded text; every error names the file and the line."""

    def __init__(
        self, source: Source, encoding: str | None = None, damage: DamageLog | None = None
    ):
        self.source, self.name = source, source.name
        found = detect_encoding(source.head())
        if encoding is None or (encoding in ("utf-8", "utf-16") and found.startswith(encoding)):
            encoding = found
        elif encoding == "utf-16":
            encoding = "utf-16-le"  # without a mark nearly all of it is
        self.encoding, self.damage = encoding, damage or DamageLog()
        self.line = 0  # the line handed out last
        self._budget = source.budget()
        self.keeps_bytes = self.damage.skip and encoding.startswith("utf-8")  # see undecoded()

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
                raise self.source.over_budget(self._budget)
            yield line

    def chunks(self, size: int = 1 << 20) -> Iterator[str]:
        """The text in large pieces, for readers that do not go line by line."""
        seen = 0
        for chunk in self._pull(lambda text: text.read(size)):
            seen += len(chunk)
            if seen > self._budget:
                raise self.source.over_budget(self._budget)
            yield chunk

    def error(self, what: str, fix: str, line: int | None = None) -> UserError:
        """A UserError that points at a line of this file."""
        return UserError(what, f"{self.name}, line {line or self.line}", fix)

    def undecoded(self, text: str) -> bool:
        """Whether a text holds bytes that are not UTF-8 (only met when damage is skipped)."""
        return self.keeps_bytes and not text.isascii() and bool(_KEPT_BYTE.search(text))

    def not_decoded(self, line: int) -> UserError:
        """The error for a row with bytes that are not UTF-8."""
        fix = "Save the file as UTF-8 and upload it again, or choose its encoding."
        return self.error("The text is not UTF-8.", fix, line)

    def _pull(self, read) -> Iterator[str]:
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
        what = f"The text is not {spoken_encoding(self.encoding)}."
        if self.encoding.startswith(("utf-16", "utf-32")):
            fix = "Save the file as UTF-8 and upload it again."
            return UserError(what, f"{self.name}, near its end", fix, code="encoding")
        place, offer = self._bad_byte()
        fix = "Save the file as UTF-8 (in a spreadsheet: “CSV UTF-8”) and upload it again"
        other = offer.get("encoding")
        fix += f", or read it as {spoken_encoding(other)}." if other else ", or leave the row out."
        return UserError(what, f"{self.name}, {place}", fix, code="encoding", offer=offer)

    def _bad_byte(self) -> tuple[str, dict]:
        """Where the first byte stands that cannot be read, and what to offer for it."""
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

    def _offer(self, ascii_so_far: bool, rest: bytes) -> dict:
        """Another encoding, unless the text before shows that this is UTF-8 with a fault."""
        if not self.encoding.startswith("utf-8"):
            return {"encoding": "latin-1"}
        if not ascii_so_far:
            return {"skip_damaged": True}
        windows = not _UNUSED_IN_CP1252.search(rest)
        letters = bytes(byte for byte in rest if 0x80 <= byte <= 0x9F)
        return {"encoding": "cp1252" if letters and windows else "latin-1"}
