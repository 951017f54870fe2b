"""What a chat template made of each kind of content of a row: flags in one integer, and sums.

Flags are set where a row is rendered; here they are named, read and counted. No text is searched.
"""

from collections.abc import Iterable

import numpy as np

KINDS = {  # the kinds of content a row can have, and their names in sentences
    "system": "system text",
    "prompt": "user text",
    "results": "tool results",
    "tools": "tool definitions",
    "calls": "tool calls",
    "reasoning": "reasoning",
    "answer": "answer text",
    "media": "images, audio or video",
}
STATES = ("has", "lost", "partly", "doubled", "not_learned")
NO_STOP = 1 << 8 * len(STATES)  # the learned text ends without a token at which the model stops
HALF = 0.5  # a kind written in a smaller share of the rows that have it is wholly lost
_AT = {kind: at for at, kind in enumerate(KINDS)}


def flag(kind: str, state: str = "has") -> int:
    """The bit of a state of a kind; "lost" is wholly lost, "partly" lost or changed in part."""
    return 1 << 8 * STATES.index(state) + _AT[kind]


def is_set(flags: np.ndarray, kind: str, state: str = "has") -> np.ndarray:
    """Which rows have this flag: bool [rows] of int64 [rows]."""
    return flags & flag(kind, state) != 0


def lost_kinds(flags: np.ndarray) -> list[str]:
    """The kinds that are written in fewer than half of the rows that have them."""
    found = []
    for kind in KINDS:
        has, lost = is_set(flags, kind), is_set(flags, kind, "lost")
        if has.any() and (has & ~lost).sum() < HALF * has.sum():
            found.append(kind)
    return found


def loses(flags: np.ndarray, kinds: Iterable[str] = KINDS) -> np.ndarray:
    """Which rows have one of these kinds of which nothing is written: bool [rows]."""
    wanted = sum(flag(kind, "lost") for kind in kinds)
    return flags & wanted != 0
