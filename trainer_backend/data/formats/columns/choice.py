"""Columns as a person names them: roles to a mapping, a line of text to roles, and back.

How the columns of a file are understood without such a choice is not known here.
"""

import re
from collections.abc import Mapping, Sequence

from trainer_backend.data.formats.mapping import (
    ROLE_NAMES,
    ColumnMapping,
    check_roles,
    listed,
    quoted,
)
from trainer_backend.errors import UserError

_PAIR, _CHAT, _TEXT = ("prompt", "input", "history"), ("messages",), ("text",)
_EXAMPLE = "Write prompt=COLUMN,completion=COLUMN, or messages=COLUMN, or text=COLUMN."
_NEXT = rf"(?:,(?=\s*(?:{'|'.join(ROLE_NAMES)})\s*=)|\Z)"  # a comma before the next role
_PART = re.compile(rf"\s*([^=,\"]*)=(\"(?:[^\"]|\"\")*\"|.*?)\s*{_NEXT}", re.DOTALL)


def mapping_of(
    roles: Mapping[str, str], where: str, like: ColumnMapping | None = None
) -> ColumnMapping:
    """The mapping that gives these roles to columns: {role: column}.

    `like` is the mapping that detection found; its ShareGPT or Alpaca name is kept where it fits.
    Raises UserError for roles that make no example.
    """
    kinds = [kind for kind in (_PAIR, _CHAT, _TEXT) if any(role in roles for role in kind)]
    if not kinds and "completion" in roles:
        kinds = [_PAIR]
    if not kinds:
        raise UserError("No column has a role yet.", where, _EXAMPLE)
    if len(kinds) > 1:
        names = " and ".join(role for kind in kinds for role in kind if role in roles)
        fix = "Choose a prompt and an answer, or a conversation, or a full text."
        raise UserError(f"{names} cannot be combined.", where, fix)
    if like is not None and like.roles == dict(roles):
        return like
    mapping = ColumnMapping(_format(kinds[0], roles, like), dict(roles))
    check_roles(mapping, where, unnamed=True)
    return mapping


def _format(kind: tuple[str, ...], roles: Mapping[str, str], like: ColumnMapping | None) -> str:
    if kind is _TEXT:
        return "text"
    if kind is _PAIR:
        return like.format if like and like.format == "alpaca" else "prompt_completion"
    return "sharegpt" if like and like.format == "sharegpt" else "messages"


def parse_columns(texts: Sequence[str], where: str = "--columns") -> dict[str, str]:
    """Roles from lines as “prompt=Question,completion=Answer”; the lines add up.

    A name may hold commas and equals signs, or stand in double quotes. Raises UserError.
    """
    roles: dict[str, str] = {}
    for text in texts:
        at = 0
        if not text.strip():
            raise UserError("No column is named.", where, _EXAMPLE)
        while at < len(text):
            found = _PART.match(text, at)
            if not found:
                raise UserError(f"“{text[:60]}” names no columns.", where, _EXAMPLE)
            _add(roles, found[1].strip().lower(), _unquoted(found[2].strip()), where)
            at = found.end() if found.end() > at else len(text)
    return roles


def _add(roles: dict[str, str], role: str, column: str, where: str) -> None:
    if role not in ROLE_NAMES:
        raise UserError(f"Unknown role {quoted(role)}.", where, f"Use {', '.join(ROLE_NAMES)}.")
    if role in roles:
        what = f"The role {role} is given twice, to {listed([roles[role], column], 2)}."
        raise UserError(what, where, "Name one column for each role.")
    roles[role] = column


def _unquoted(name: str) -> str:
    if len(name) > 1 and name[0] == name[-1] == '"':
        return name[1:-1].replace('""', '"')
    return name


def written_columns(mapping: ColumnMapping) -> str:
    """The roles of a mapping as parse_columns() reads them: “prompt=Question,completion=Answer”."""
    return ",".join(f"{role}={_quoted(column)}" for role, column in mapping.roles.items())


def _quoted(name: str) -> str:
    if re.search(r"[,\"]", name) or name != name.strip():
        return '"' + name.replace('"', '""') + '"'
    return name
