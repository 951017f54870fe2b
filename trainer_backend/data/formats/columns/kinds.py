"""What the cells of a column are: prose, short phrases, classes, numbers, ids, dates, addresses.

Only the cells are looked at, never the name.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

PROSE, PHRASES, CLASSES = "prose", "phrases", "classes"
NUMBERS, IDS, DATES, EMAILS, LINKS = "numbers", "ids", "dates", "e-mail addresses", "links"
EMPTY, OTHER = "nothing", "lists or objects"
TEXTS = (PROSE, PHRASES)
LOOKED_AT, MIN_SHARE = 200, 0.8
_MIN_WORDS, _MIN_WIDE, _FEWEST, _LONG = 3.5, 6, 5, 60
_WIDE = re.compile("[\u0e00-\u0eff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_NUMBER = re.compile(r"[-+(]?[\d\s.,'’]*\d[\s.,]*[%€$£¥)]?|[€$£¥]\s*[\d.,]+")
_ID = re.compile(r"(?=\S*\d)[#№]?\w[\w\-./:#]{0,63}")
_DATE = re.compile(
    r"(\d{1,4}[-./]\d{1,2}[-./]\d{1,4}|\d{4}年\d{1,2}月\d{1,2}日"
    r"|(\w{3,9}[.,]? )?\d{1,2}[.,]? \w{3,9}[.,]? \d{2,4}|\w{3,9}\.? \d{1,2},? \d{4})?"
    r"[T ,]{0,2}(\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?\s?([AaPp]\.?[Mm]\.?)?)?"
    r"\s?(Z|UTC|GMT|[A-Z]{3,4}|[-+]\d{2}:?\d{2})?"
)
_EMAIL = re.compile(r"(?:[^<>@]* )?<?[^\s@<>]+@[^\s@<>]+\.[^\s@<>]+>?")
_LINK = re.compile(r"(?:https?://|www\.|ftp://|mailto:)\S+", re.IGNORECASE)
_PATTERNS = (
    (EMAILS, _EMAIL), (LINKS, _LINK), (NUMBERS, _NUMBER), (DATES, _DATE), (IDS, _ID),
)  # fmt: skip


def kind_of(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """The kind of most filled cells of the first rows."""
    cells = [row.get(name) for row in rows[:LOOKED_AT]]
    filled = [cell for cell in cells if cell is not None and cell not in ("", [], {})]
    if any(isinstance(cell, list | dict) for cell in filled):
        return OTHER
    texts = [text for cell in filled if (text := str(cell).strip())]
    if not texts:
        return EMPTY
    for kind, pattern in _PATTERNS:
        if sum(bool(pattern.fullmatch(text)) for text in texts) >= MIN_SHARE * len(texts):
            return kind
    return _text_kind(texts)


def _text_kind(texts: list[str]) -> str:
    mean = sum(map(len, texts)) / len(texts)
    distinct = len({text.casefold() for text in texts})
    if len(texts) >= _FEWEST and distinct * 2 <= len(texts) and mean < _LONG:
        return CLASSES
    wide = sum(bool(_WIDE.search(text)) for text in texts) * 2 > len(texts)
    if wide:
        return PROSE if mean >= _MIN_WIDE else PHRASES
    words = sum(len(text.split()) for text in texts) / len(texts)
    return PROSE if words >= _MIN_WORDS else PHRASES
