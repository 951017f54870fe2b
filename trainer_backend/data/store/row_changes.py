"""What a fix does to the texts of one row: white space off answers, control characters out.

Which rows a fix is for is told by the findings; the versions themselves are versions.py.
"""

import re
from collections.abc import Callable
from typing import Any

from trainer_backend.data.formats.conversations import ROLES
from trainer_backend.data.formats.mapping import Mapping
from trainer_backend.data.json_values import BadJSON, parse, to_json

CONTROL = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
_CONTENT = ("content", "value", "text")  # the keys of a message that hold its words
_ASKED = ("prompt", "input", "system")  # roles of columns that no answer stands in
Change = Callable[[str], str]


def trimmed_row(row: dict, mapping: Mapping) -> dict:
    """The row without white space and line ends around its answers."""
    roles = {column: role for role, column in mapping.roles.items() if role not in _ASKED}
    return {
        name: _changed(cell, str.strip, answers_only=True) if name in roles else cell
        for name, cell in row.items()
    }


def cleaned_row(row: dict, mapping: Mapping) -> dict:
    """The row without invisible control characters in what trains; tabs and line ends stay."""
    columns = set(mapping.roles.values())
    return {
        name: _changed(cell, lambda text: CONTROL.sub("", text), answers_only=False)
        if name in columns
        else cell
        for name, cell in row.items()
    }


CHANGES = {"trim": trimmed_row, "clean": cleaned_row}


def _changed(cell: Any, change: Change, answers_only: bool) -> Any:
    if isinstance(cell, list):
        return [_changed_message(item, change, answers_only) for item in cell]
    if not isinstance(cell, str):
        return cell
    if cell.lstrip().startswith("[{"):
        try:
            turns = parse(cell)
        except BadJSON:
            return change(cell)
        said = _changed(turns, change, answers_only)
        return cell if said == turns else to_json(said)  # a text that needs no fix stays exact
    return change(cell)


def _changed_message(item: Any, change: Change, answers_only: bool) -> Any:
    """A message, or a part of one, with its words changed; roles and tool calls stay."""
    if not isinstance(item, dict):
        return item
    role = item.get("role") or item.get("from")
    if answers_only and role is not None and ROLES.get(str(role).strip().lower()) != "assistant":
        return item
    return {
        key: _changed(value, change, answers_only) if key in _CONTENT else value
        for key, value in item.items()
    }
