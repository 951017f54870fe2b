"""Calls of functions, in every form people write them, as chat templates expect them.

{"id"?, "type": "function", "function": {"name", "arguments": {…}}}. Messages are not known here.
"""

from collections.abc import Container, Mapping
from typing import Any

from trainer_backend.data.formats.conversations.literals import LEFTOVER, value_of
from trainer_backend.data.formats.conversations.notes import Note, Say, keep_quiet, unread
from trainer_backend.data.json_values import BadJSON, drop_nones
from trainer_backend.errors import RowError

CALL_FIX = 'Write it as {"name": "…", "arguments": {…}}.'
CALL_KEYS = (
    "tool_calls", "function_call", "functionCall", "function_calls", "toolCalls", "tool_call",
)  # fmt: skip
ID_KEYS = ("id", "call_id", "tool_call_id", "tool_use_id", "toolUseId", "toolCallId")
_NAMES = ("name", "tool_name", "toolName", "function_name")
_ARGUMENTS = ("arguments", "parameters", "input", "args", "kwargs")
_WRAPPERS = ("function", "functionCall", "function_call", "toolUse", "tool_call")
_ABOUT = {
    "type", "index", "status", "cache_control", "caller", "generation_id", "extra_content",
    "thoughtSignature", "thought_signature", "namespace", "toolCallType", "state",
}  # fmt: skip
_NULLS = Note(
    "null_arguments",
    "Nulls in the arguments of calls were taken for arguments that are not there.",
    "A table fills absent keys with null. Write the arguments as JSON text to keep nulls.",
)
_NO_NAME = "A function call is not JSON with a name and arguments."


def calls_in(turn: Mapping, say: Say = keep_quiet, filled: bool = False) -> list[dict]:
    """The calls of a message, whatever its key for them; [] for none. Raises RowError.

    `filled`: nulls stand for absent keys, as is_filled() says.
    """
    found = [(key, turn[key]) for key in CALL_KEYS if turn.get(key)]
    if not found:
        return []
    key, value = found[0]
    calls = calls_of(value, say, filled)
    for other, again in found[1:]:
        if calls_of(again, filled=filled) != calls:
            what = f"A message has “{key}” and “{other}”, and they differ."
            raise RowError(what, "Keep the one that the model should learn.")
    return calls


def calls_of(value: Any, say: Say = keep_quiet, filled: bool = False) -> list[dict]:
    """Calls from a list of them, one of them, or the text of either. Raises RowError."""
    if isinstance(value, str):
        value = _parsed(value, _NO_NAME)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list | tuple):
        raise RowError("The tool calls of a message are not a list.", CALL_FIX)
    return [call_of(call, say, filled) for call in value if call is not None]


def call_of(value: Any, say: Say = keep_quiet, filled: bool = False) -> dict:
    """One call in the form chat templates expect. Raises RowError."""
    if isinstance(value, str):
        value = _parsed(value, _NO_NAME)
    if not isinstance(value, Mapping):
        raise RowError(_NO_NAME, CALL_FIX)
    outer, inner, known = value, value, _ABOUT
    for key in _WRAPPERS:
        if isinstance(value.get(key), Mapping):
            inner, known = value[key], {*_ABOUT, key}
            break
    name = _only(inner, _NAMES)
    if name is None and isinstance(inner.get("function"), str):  # {"function": "f", "args": …}
        name, known = inner["function"], {*known, "function"}
    if not isinstance(name, str) or not name.strip():
        raise RowError(_named(value), CALL_FIX)
    given = _only(inner, _ARGUMENTS)
    if filled and isinstance(given, Mapping):
        slim = drop_nones(given)
        if slim != given:
            say(_NULLS)
        given = slim
    identity = _only({**inner, **outer}, ID_KEYS[:1]) or _only({**inner, **outer}, ID_KEYS[1:])
    read = {*known, *_NAMES, *_ARGUMENTS, *ID_KEYS}
    rest = [key for part in (outer, inner) for key in part if part[key] is not None]
    if unknown := [key for key in dict.fromkeys(rest) if key not in read]:
        say(unread(unknown, "tool calls"))
    call = {"type": "function", "function": {"name": name, "arguments": _arguments(given)}}
    return call if identity is None else {"id": str(identity), **call}


def _only(value: Mapping, keys: tuple[str, ...]) -> Any:
    """The value of the one key that is there. Raises RowError where two differ."""
    found = [(key, value[key]) for key in keys if value.get(key) is not None]
    for key, other in found[1:]:
        if other != found[0][1]:
            what = f"A function call has “{found[0][0]}” and “{key}”, and they differ."
            raise RowError(what, CALL_FIX)
    return found[0][1] if found else None


def _named(value: Mapping) -> str:
    keys = ", ".join(f"“{str(key)[:40]}”" for key in list(value)[:5])
    return f"{_NO_NAME[:-1]}; it has {keys}." if keys else _NO_NAME


def _arguments(value: Any) -> dict:
    """Arguments as an object; "" and null become {}. Raises RowError."""
    if isinstance(value, str):
        what = "The arguments of a function call are not JSON."
        value = _parsed(value, what) if value.strip() else None
    if not isinstance(value, Mapping | None):
        raise RowError("The arguments of a function call are not an object.", CALL_FIX)
    return dict(value or {})


def _parsed(text: str, what: str) -> Any:
    try:
        return value_of(text)
    except BadJSON as error:
        if error.what.startswith(LEFTOVER):
            raise RowError(error.what, error.fix, "python_text") from None
        raise RowError(what, CALL_FIX) from None


def without_nulls(messages: Any, without: Container[str] = ()) -> list[dict]:
    """Messages without keys that are null, and without the keys `without`.

    Nulls in the arguments of calls stay, unless a table filled absent keys with them.
    """
    kept = "tool_calls" if any("tool_calls" in message for message in messages) else ""
    kept = "" if kept and is_filled(messages) else kept
    return [
        {
            key: _slim(item) if key == kept else drop_nones(item)
            for key, item in message.items()
            if item is not None and key not in without
        }
        for message in messages
    ]


def _slim(calls: Any) -> Any:
    """Calls without keys that are null; their arguments stay as they are."""
    if not isinstance(calls, list | tuple):
        return calls
    return [
        {key: item for key, item in call.items() if item is not None}
        if isinstance(call, Mapping)
        else call
        for call in calls
    ]


def is_filled(turns: Any) -> bool:
    """Whether nulls only stand for keys that are absent, as in tables (Arrow, Parquet).

    There every message has the same keys, those it does not use being null or empty. Such a null cannot be
    told from one that a person wrote: nulls in arguments are then taken for absent keys. In JSON
    the messages have different keys, and a null in the arguments of a call is a value.
    """
    if not isinstance(turns, list | tuple) or len(turns) < 2:
        return False
    first = turns[0].keys() if isinstance(turns[0], Mapping) else ()
    if not all(isinstance(turn, Mapping) and turn.keys() == first for turn in turns):
        return False
    return any(not turn[key] for turn in turns for key in CALL_KEYS if key in turn)
