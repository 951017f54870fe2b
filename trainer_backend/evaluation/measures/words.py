"""The words of a text in any script, as measures of overlap count them.

Nothing is scored here.
"""

import string
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

# Scripts written without spaces between words: each character (with its marks) is one word.
_NO_SPACES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x109F),  # Tibetan, Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x3005, 0x3007),  # 々〆〇
    (0x3040, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31FF),
    (0x3400, 0x9FFF),  # Han
    (0xF900, 0xFAFF),
    (0x1B000, 0x1B16F),
    (0x20000, 0x3FFFF),
)
_ARTICLES = frozenset(("a", "an", "the"))
_DELETED = frozenset(string.punctuation + "‘’")


def words(text: str) -> list[str]:
    """The words of a text, as the SQuAD scorer normalises them, and for every script.

    Lower case, punctuation deleted, spaces between words, “a”, “an” and “the” dropped (Rajpurkar
    et al. 2016, arXiv 1606.05250). Beyond it: compatibility forms are one (NFKC); in scripts
    without spaces each character with its marks is a word; a symbol or emoji is a word; punctuation
    of other scripts separates words; and a text of nothing but articles keeps them, since “A” may
    be an option's letter.
    """
    found = list(_split(unicodedata.normalize("NFKC", text).casefold()))
    return [word for word in found if word not in _ARTICLES] or found


def rouge_words(text: str) -> list[str]:
    """The words of a text as rouge-score counts them, and the words of other scripts.

    In Latin text these are its runs of a–z and 0–9 in lower case; an accented letter separates, as
    it does there. That tokenizer drops all other letters. Here a word of another script counts as
    a word, and in scripts without spaces each character does.
    """
    found: list[str] = []
    last = ""
    for char in text.lower():
        kind = _rouge_kind(char)
        if kind == "mark":  # belongs to the letter before it, if that is of another script
            if last in ("word", "alone"):
                found[-1] += char
            else:
                last = ""
            continue
        if kind:
            if kind == last != "alone":
                found[-1] += char
            else:
                found.append(char)
        last = kind
    return found


def plain(text: str) -> str:
    """A text in one form of Unicode (NFC), with line ends as “\\n”, without space around it."""
    return unicodedata.normalize("NFC", text).replace("\r\n", "\n").strip()


def folded(text: str) -> str:
    """A text without case, its white space as single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def without_edges(text: str) -> str:
    """A text without the punctuation and white space around it; all of it if nothing is left."""
    start, end = 0, len(text)
    while start < end and _is_edge(text[start]):
        start += 1
    while end > start and _is_edge(text[end - 1]):
        end -= 1
    return text[start:end] or text


def _is_edge(char: str) -> bool:
    return char.isspace() or unicodedata.category(char)[0] == "P" or char == "`"


def _split(text: str) -> Iterator[str]:
    """Words in order; a mark stays with its letter."""
    word, alone = "", False
    for char in text:
        kind = _kind(char)
        if kind == "deleted":
            continue
        if kind == "mark" and word:
            word += char
            continue
        if word and (alone or kind != "letter"):
            yield word
            word = ""
        alone = kind in ("alone", "symbol")
        word += char if kind != "space" else ""
    if word:
        yield word


@lru_cache(maxsize=1 << 16)
def _kind(char: str) -> str:
    """letter, alone (a word by itself), mark, symbol, deleted or space."""
    category = unicodedata.category(char)
    if char in _DELETED or category == "Cf":
        return "deleted"
    if category[0] == "M":
        return "mark"
    if category[0] in "LN":
        return "alone" if _without_spaces(char) else "letter"
    return "symbol" if category[0] == "S" else "space"


@lru_cache(maxsize=1 << 16)
def _rouge_kind(char: str) -> str:
    """latin, word (of another script), alone, mark, or nothing for what separates."""
    if char.isascii():
        return "latin" if char.isalnum() else ""
    category = unicodedata.category(char)
    if category[0] == "M":
        return "mark"
    if category[0] not in "LN" or category == "No" or _is_latin(char):
        return ""
    return "alone" if _without_spaces(char) else "word"


def _is_latin(char: str) -> bool:
    return char in "ªº" or "LATIN" in unicodedata.name(char, "")


def _without_spaces(char: str) -> bool:
    point = ord(char)
    return any(start <= point <= end for start, end in _NO_SPACES)
