"""Answers that are JSON: whether they can be read, and which of their fields are right."""

import json
import re
from collections.abc import Iterator
from typing import Any

_FENCED = re.compile(r"\A\s*```(?:json|JSON)?[ \t]*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_NOTHING = object()

Path = tuple[str | int, ...]


def json_of(text: str) -> Any:
    """The object or list that a text is, or None: for text, single values, NaN and Infinity."""
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, (dict, list)) else None


def json_valid(given: str) -> float:
    """1 if the whole text is a JSON object or list (RFC 8259), else 0.

    A code fence or a word around it makes it invalid, for a program could not read it.
    """
    return float(json_of(given) is not None)


def json_fields(given: str, expected: Any) -> float:
    """The share of fields that are right: right / (expected + extra), from 0 to 1.

    A field is a value that holds no others, at its path: {"a": {"b": 1}, "c": [2, 3]} has the
    fields a.b, c.0 and c.1; an empty object or list is a field too. The order of keys does not
    count, that of a list does. Values must be equal and of one type; 3.0 is 3, true is not 1. A
    field that was not expected counts against the answer. JSON in a code fence is read; an answer
    that is no JSON has 0.
    """
    fence = _FENCED.match(given)
    found = json_of(fence[1] if fence else given)
    if found is None:
        return 0.0
    ours, theirs = dict(_fields(found)), dict(_fields(expected))
    right = sum(_same(ours.get(path, _NOTHING), value) for path, value in theirs.items())
    return right / len(ours.keys() | theirs.keys())


def _fields(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _fields(item, (*path, key))
    elif isinstance(value, list) and value:
        for at, item in enumerate(value):
            yield from _fields(item, (*path, at))
    else:
        yield path, value


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return ours is theirs
    return bool(ours == theirs)


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")
