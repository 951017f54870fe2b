"""Which encodings a text may be in, the likeliest first, each with a line of it decoded that way.

Bytes that are marked (a byte order mark) or plain UTF-8 need no guess and are not expected here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from trainer_backend.data.readers.encodings.judge import CANDIDATES, score
from trainer_backend.data.readers.encodings.names import encoding_name

MAX_SAMPLE = 8 * 1024  # bytes of lines beyond ASCII that are judged
PREVIEW = 60  # characters
_LOST = "\ufffd"  # shown for a character that cannot be
MOST = 4  # encodings named
_ESCAPED = (  # encodings that switch by escape sequences, which are ASCII
    (re.compile(rb"\x1b\$\)C"), ("iso2022-kr",)),
    (re.compile(rb"\x1b(?:\$[@B(]|\([JI])"), ("iso2022-jp",)),
)
_BAD = re.compile("[\udc80-\udcff]")  # a byte under “surrogateescape”
_BAD_AND_BESIDE = re.compile("[^\x00-\x7f]?[\udc80-\udcff]+[^\x00-\x7f]?")
_BEYOND_ASCII = re.compile(rb"[^\n]*[\x80-\xff][^\n]*\n?")


@dataclass(frozen=True)
class Guess:
    """An encoding, and a line of the text decoded with it."""

    encoding: str  # a name that a text may be read with
    preview: str

    @property
    def name(self) -> str:
        """The encoding in a person's words."""
        return encoding_name(self.encoding)

    def to_dict(self) -> dict[str, str]:
        """Plain data for an error's offer."""
        return {"encoding": self.encoding, "name": self.name, "preview": self.preview}


def guesses(data: bytes) -> list[Guess]:
    """The encodings that may have made these bytes, the likeliest first; at most four.

    `data` begins at the beginning of a line. [] if no encoding gives readable text.
    """
    for pattern, encodings in _ESCAPED:
        if pattern.search(data):
            return list(_readable(data, encodings))
    sample = judged_part(data) or data[:MAX_SAMPLE]
    scores: dict[str, tuple[float, str]] = {}  # by the decoded text: (score, encoding)
    for encoding, languages, rarity in CANDIDATES:
        text = _decoded(data[: MAX_SAMPLE // 2 * 2] if _is_wide(encoding) else sample, encoding)
        if text is not None:
            points = score(text, languages) - rarity
            before = scores.get(text, (points, encoding))
            scores[text] = (max(points, before[0]), before[1])
    ranked = sorted(((*one, text) for text, one in scores.items()), key=lambda one: -one[0])
    found = [Guess(encoding, preview_of(text)) for _, encoding, text in ranked]
    return found[:1] + [one for one in found[1:MOST] if _LOST not in one.preview]


def is_broken_utf8(data: bytes) -> bool:
    """Whether bytes that are not UTF-8 are UTF-8 but for a few places.

    A character beside a broken one proves nothing: other encodings make such pairs by chance.
    """
    text = judged_part(data).decode("utf-8", "surrogateescape")
    bad = len(_BAD.findall(text))
    good = sum("\x7f" < letter for letter in _BAD_AND_BESIDE.sub("", text))
    return 0 < bad <= good


def escape_sequence(text: str) -> bool:
    """Whether a text that seems to be UTF-8 switches encodings by escape sequences."""
    return "\x1b" in text and any(
        pattern.search(text.encode("utf-8", "replace")) for pattern, _ in _ESCAPED
    )


def judged_part(data: bytes) -> bytes:
    """The lines beyond ASCII, up to MAX_SAMPLE bytes of them; whole lines where possible."""
    parts, size = [], 0
    for found in _BEYOND_ASCII.finditer(data):
        parts.append(found[0])
        size += len(found[0])
        if size >= MAX_SAMPLE:
            break
    return b"".join(parts)[: 2 * MAX_SAMPLE]


def preview_of(text: str) -> str:
    """The first line with a character beyond ASCII, cut around that character."""
    line = next((one for one in text.splitlines() if not one.isascii()), text)
    at = next((at for at, letter in enumerate(line) if letter > "\x7f"), 0)
    start = max(0, min(at - PREVIEW // 3, len(line) - PREVIEW))
    part = line[start : start + PREVIEW].strip()
    shown = "".join(letter if letter.isprintable() else _LOST for letter in part)
    return f"{'…' * (start > 0)}{shown}{'…' * (start + PREVIEW < len(line))}"


def _is_wide(encoding: str) -> bool:
    return encoding.startswith(("utf-16", "utf-32"))


def _decoded(data: bytes, encoding: str) -> str | None:
    """The text; None if the bytes cannot be in the encoding. A last cut character is left out."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if len(data) < MAX_SAMPLE or error.start < len(data) - 8:
            return None
        return data[: error.start].decode(encoding)


def _readable(data: bytes, encodings: tuple[str, ...]) -> Iterator[Guess]:
    for encoding in encodings:
        text = _decoded(data, encoding)
        if text is not None:
            yield Guess(encoding, preview_of(text))
