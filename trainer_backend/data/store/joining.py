"""Joins neighbouring messages of one role in a row, which many chat templates refuse.

Only texts are joined: a message with calls, reasoning or other keys stays as it is.
"""

from collections.abc import Mapping
from typing import Any

from trainer_backend.data.formats.conversations import ROLES
from trainer_backend.data.json_values import BadJSON, parse, to_json

JOINT = "\n\n"
_KEYS = (("role", "content"), ("from", "value"))  # of the two spellings of a message


def joined_row(row: dict[str, Any], roles: Mapping[str, str]) -> dict[str, Any]:
    """The row with neighbouring texts of one role (user, assistant, system) joined."""
    columns = set(roles.values())
    return {name: _joined_cell(cell) if name in columns else cell for name, cell in row.items()}


def _joined_cell(cell: Any) -> Any:
    if isinstance(cell, list):
        return _joined(cell)
    if not (isinstance(cell, str) and cell.lstrip().startswith("[{")):
        return cell
    try:
        turns = parse(cell)
    except BadJSON:
        return cell
    joined = _joined(turns)
    return cell if joined == turns else to_json(joined)


def _joined(turns: list) -> list:
    result: list[Any] = []
    for turn in turns:
        keys = _keys(turn)
        last: Any = result[-1] if result else None
        if keys and keys == _keys(last) and _role(turn, keys) == _role(last, keys) != "tool":
            text = keys[1]
            both = [one[text] for one in (last, turn) if one[text].strip()]
            result[-1] = {**last, text: JOINT.join(both)}
        else:
            result.append(turn)
    return result


def _keys(turn: Any) -> tuple[str, str] | None:
    """The keys of role and text of a message that has these alone, both as text."""
    for keys in _KEYS:
        if isinstance(turn, dict) and turn.keys() == set(keys):
            return keys if all(isinstance(turn[key], str) for key in keys) else None
    return None


def _role(turn: Any, keys: tuple[str, str]) -> str:
    said = turn[keys[0]].strip().lower()
    return ROLES.get(said, said)
