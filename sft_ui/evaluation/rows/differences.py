"""Differences between the expected and the given answer, word by word.

Texts in, pieces out; what a piece looks like is decided elsewhere.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import groupby, takewhile

# “same”; “ins”: only in the given answer; “del”: only in the expected one; “other”: not compared
Piece = tuple[str, str]

MOST_WORDS = 1_200  # that differ; comparing more takes seconds
LEAST_SHARED = 0.25  # with less in common, marks on almost every word would help nobody
BEFORE = 60  # characters kept in front of the first difference

# a word, a sign, or one character of a script that is written without spaces
_WORD = re.compile(r"\s*(?:[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff]|\w+|[^\w\s])|\s+")


@lru_cache(maxsize=4_000)
def differences(expected: str, given: str) -> tuple[Piece, ...]:
    """What turns the expected answer into the given one.

    White space is compared only where nothing else differs. An empty answer has no pieces. Answers
    with too little in common, or too long to compare, are one piece of the kind “other”.
    """
    if not given.strip():
        return ()
    if expected.strip() == given.strip():
        return (("same", given),)
    wanted, words = _WORD.findall(expected), _WORD.findall(given)
    pieces = _compared(
        wanted, words, [one.strip() for one in wanted], [one.strip() for one in words]
    )
    if pieces is not None and all(kind == "same" for kind, _ in pieces):
        pieces = _compared(wanted, words, wanted, words)
    return (("other", given),) if pieces is None else tuple(_joined(pieces))


def _compared(
    wanted: Sequence[str], words: Sequence[str], left: Sequence[str], right: Sequence[str]
) -> list[Piece] | None:
    """The pieces of two answers, compared by their keys `left` and `right`; None if too unlike."""
    start = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    )
    rest = min(len(left), len(right)) - start
    pairs = zip(reversed(left), reversed(right), strict=False)
    end = min(rest, sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)))
    a, b = left[start : len(left) - end], right[start : len(right) - end]
    if max(len(a), len(b)) > MOST_WORDS:
        return None
    found = SequenceMatcher(None, a, b, autojunk=False)
    shared = start + end + sum(block.size for block in found.get_matching_blocks())
    if 2 * shared < LEAST_SHARED * (len(left) + len(right)):
        return None
    pieces = [("same", "".join(words[:start]))]
    for kind, a0, a1, b0, b1 in found.get_opcodes():
        if kind == "equal":
            pieces.append(("same", "".join(words[start + b0 : start + b1])))
        else:
            gone = "".join(wanted[start + a0 : start + a1])
            pieces += _replaced(gone, "".join(words[start + b0 : start + b1]))
    return [*pieces, ("same", "".join(words[len(words) - end :] if end else ()))]


def _replaced(gone: str, new: str) -> list[Piece]:
    """Words that gave way to others; white space before them is not marked."""
    if gone.strip() == new.strip():
        return [("del", gone), ("ins", new)]
    word = new.lstrip()
    space = new[: len(new) - len(word)]
    return [("same", space), ("del", gone.lstrip() if new else gone), ("ins", word)]


def _same_at_start(left: Sequence[str], right: Sequence[str]) -> int:
    pairs = zip(left, right, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    """Without empty pieces, and neighbours of one kind as one."""
    known = (one for one in pieces if one[1])
    groups = groupby(known, key=lambda piece: piece[0])
    return [(kind, "".join(text for _, text in group)) for kind, group in groups]


def excerpt(pieces: Sequence[Piece], length: int) -> list[Piece]:
    """At most about `length` characters of the pieces, from just before the first difference on."""
    whole = sum(len(text) for _, text in pieces)
    if whole <= length:
        return list(pieces)
    shown, room = [], length
    for at, (kind, text) in enumerate(pieces):
        is_lead = at == 0 and kind == "same" and len(pieces) > 1 and len(text) > BEFORE
        text = f"…{text[-BEFORE:]}" if is_lead else text
        shown.append((kind, text if len(text) <= room else text[:room] + "…"))
        room -= len(text)
        if room <= 0:
            break
    return shown
