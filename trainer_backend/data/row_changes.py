"""What a fix does to the cells of one row: white space off the ends, control characters out.

Which rows a fix is for is told by the findings; the versions themselves are versions.py.
"""

import re
from collections.abc import Callable
from typing import Any

from trainer_backend.data.formats import Mapping
from trainer_backend.data.json_values import BadJSON, parse, to_json

CONTROL = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069]")
_CONTENT = ("content", "value", "text")  # the keys of a message that hold its words


def trim(text: str) -> str:
    """The text without white space and line ends around it."""
    return text.strip()


def clean(text: str) -> str:
    """The text without invisible control characters; tabs and line ends stay."""
    return CONTROL.sub("", text)


CHANGES: dict[str, Callable[[str], str]] = {"trim": trim, "clean": clean}


def changed_row(row: dict, mapping: Mapping, change: Callable[[str], str]) -> dict:
    """The row with one change made to all texts that train; other columns stay as they are."""
    trained = set(mapping.roles.values())
    return {name: _changed(cell, change) if name in trained else cell for name, cell in row.items()}


def _changed(cell: Any, change: Callable[[str], str]) -> Any:
    if isinstance(cell, list):
        return [_changed_message(item, change) for item in cell]
    if not isinstance(cell, str):
        return cell
    if cell.lstrip().startswith("[{"):
        try:
            turns = parse(cell)
        except BadJSON:
            return change(cell)
        said = _changed(turns, change)
        return cell if said == turns else to_json(said)  # a text that needs no fix stays exact
    return change(cell)


def _changed_message(item: Any, change: Callable[[str], str]) -> Any:
    """A message, or a part of one, with its words changed; roles and tool calls stay."""
    if not isinstance(item, dict):
        return item
    return {
        key: _changed(value, change) if key in _CONTENT else value for key, value in item.items()
    }
