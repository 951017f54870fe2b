"""Scores a decoding of bytes: how much it reads like a language that the encoding is used for.

A score is the log probability of the characters beyond ASCII; the sum over the same bytes compares
encodings of one, two or more bytes a character.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence

from trainer_backend.data.readers.encodings.letters import (
    ARABIC,
    BALTIC,
    CENTRAL,
    CHINESE_SIMPLIFIED,
    CHINESE_TRADITIONAL,
    CONTROL,
    CYRILLIC,
    GREEK,
    HEBREW,
    JAPANESE,
    KOREAN_ALPHABET,
    ROUND_QUOTES,
    THAI,
    TURKISH,
    VIETNAMESE,
    WESTERN,
    Alphabet,
    alphabetic,
)
from trainer_backend.data.readers.encodings.words import word_counts, words_score

_WESTERN = alphabetic(WESTERN, 0.7)
_CENTRAL = alphabetic(CENTRAL, 0.8)
_TURKISH = alphabetic(TURKISH, 0.8)
_BALTIC = alphabetic(BALTIC, 0.85)
_CYRILLIC = alphabetic(CYRILLIC, 0.9)
_GREEK = alphabetic(GREEK, 0.92)
_HEBREW = alphabetic(HEBREW, 0.92)
_ARABIC = alphabetic(ARABIC, 0.92)
_THAI = alphabetic(THAI, 0.95)
_VIETNAMESE = alphabetic(VIETNAMESE, 0.95)
_ANY = [
    *_WESTERN, *_CENTRAL, *_TURKISH, *_CYRILLIC, *_GREEK, *_HEBREW, *_ARABIC, *_THAI,
    *CHINESE_SIMPLIFIED, *CHINESE_TRADITIONAL, *JAPANESE, *KOREAN_ALPHABET,
]  # fmt: skip

# (encoding, its languages, how much rarer it is than the first ones); of encodings that decode a
# text to the same characters the first is named
CANDIDATES: tuple[tuple[str, Sequence[Alphabet], float], ...] = (
    ("latin-1", _WESTERN, 0),
    ("cp1252", _WESTERN, 0),
    ("gb18030", CHINESE_SIMPLIFIED, 0),
    ("big5", CHINESE_TRADITIONAL, 0),
    ("cp950", CHINESE_TRADITIONAL, 1),
    ("big5hkscs", CHINESE_TRADITIONAL, 2),
    ("shift_jis", JAPANESE, 0),
    ("cp932", JAPANESE, 0),
    ("euc-jp", JAPANESE, 0),
    ("euc-kr", KOREAN_ALPHABET, 0),
    ("cp949", KOREAN_ALPHABET, 0),
    ("cp1250", _CENTRAL, 0.5),
    ("iso8859-2", _CENTRAL, 1),
    ("cp1251", _CYRILLIC, 0),
    ("koi8-r", _CYRILLIC, 0.5),
    ("koi8-u", _CYRILLIC, 1),
    ("cp866", _CYRILLIC, 0.5),
    ("iso8859-5", _CYRILLIC, 1),
    ("mac-cyrillic", _CYRILLIC, 2),
    ("cp1253", _GREEK, 0),
    ("iso8859-7", _GREEK, 0.5),
    ("cp1254", _TURKISH, 0.5),
    ("iso8859-9", _TURKISH, 1),
    ("cp1255", _HEBREW, 0),
    ("iso8859-8", _HEBREW, 0.5),
    ("cp1256", _ARABIC, 0),
    ("iso8859-6", _ARABIC, 0.5),
    ("mac-roman", _WESTERN, 3),
    ("cp850", _WESTERN, 2),
    ("cp437", _WESTERN, 2.5),
    ("iso8859-15", _WESTERN, 2),
    ("cp852", _CENTRAL, 2.5),
    ("mac-latin2", _CENTRAL, 3),
    ("cp1257", _BALTIC, 2),
    ("iso8859-13", _BALTIC, 3),
    ("cp874", _THAI, 1),
    ("cp857", _TURKISH, 2.5),
    ("mac-turkish", _TURKISH, 3),
    ("cp737", _GREEK, 2),
    ("mac-greek", _GREEK, 3),
    ("cp862", _HEBREW, 2),
    ("cp720", _ARABIC, 2),
    ("cp1258", _VIETNAMESE, 2),
    ("utf-16-le", _ANY, 2),
    ("utf-16-be", _ANY, 2),
)
_ASCII_LETTER, _ASCII_SIGN = -3.0, -5.0  # they count where encodings disagree on them
_MISPLACED = 4.0  # taken off for a character where no language has it


def score(text: str, languages: Sequence[Alphabet]) -> float:
    """The log probability of a text's characters in the likeliest language."""
    counts = Counter(text)
    plain = sum(_of_ascii(letter) * count for letter, count in counts.items() if letter < "\x80")
    beyond = {letter: count for letter, count in counts.items() if letter > "\x7f"}
    words = word_counts(text)
    best = max(
        sum(one.score(letter) * count for letter, count in beyond.items())
        + words_score(one.language, words)
        for one in languages
    )
    return plain + best - _MISPLACED * misplaced(text)


def _of_ascii(letter: str) -> float:
    if letter.isalpha() or letter in " \n":
        return _ASCII_LETTER
    return _ASCII_SIGN if letter.isprintable() or letter in "\t\r" else CONTROL


def misplaced(text: str) -> int:
    """How many characters beyond ASCII stand where none belongs.

    A capital after a small letter, a sign inside a word, letters of two scripts in one word.
    """
    padded = f" {text} "
    return sum(
        _is_misplaced(padded[at - 1], letter, padded[at + 1])
        for at, letter in enumerate(padded)
        if letter > "\x7f"
    )


def _is_misplaced(before: str, letter: str, after: str) -> bool:
    if letter in "¿¡":
        return before.isalpha() or not after.isalpha()
    if letter in "ªº":
        return after.isalpha()
    if unicodedata.category(letter)[0] in "LM":
        return _breaks_word(before, letter) or _mixes(letter, after)
    inside = before.isalpha() and after.isalpha()
    if letter in ROUND_QUOTES:
        alone = before.isspace() and after.isspace() and letter not in "«»"
        return alone or (inside and letter != "’")
    if letter in "·–—" or letter >= "\u3000" or letter.isspace():
        return False
    return inside and unicodedata.category(letter)[0] in "SPC"


def _breaks_word(before: str, letter: str) -> bool:
    """Whether a letter cannot follow the letter before it."""
    if not before.isalpha() or letter > "\u2e80":
        return False
    return _mixes(letter, before) or (before.islower() and letter.isupper())


def _mixes(letter: str, neighbour: str) -> bool:
    """Whether a letter of another script touches a Latin one."""
    return "\u024f" < letter < "\u2e80" and neighbour.isalpha() and neighbour < "\x80"
