"""A cell that holds a conversation, as its turns: lists, texts, tables and pairs of all kinds.

Whether a cell is a conversation at all is decided here too. What a turn says is not read.
"""

import re
from collections.abc import Mapping
from typing import Any

from trainer_backend.data.formats.conversations.literals import LEFTOVER, value_of
from trainer_backend.data.formats.conversations.roles import (
    CHAT_FIX,
    ROLE_KEYS,
    TYPES,
    role_named,
    speaker_of,
)
from trainer_backend.data.json_values import BadJSON
from trainer_backend.errors import RowError

ITEMS = ("function_call", "function_call_output", "reasoning")  # items without a role
_CHATS = ("messages", "conversations", "conversation", "turns", "contents")
CONTENT_KEYS = ("content", "value", "text", "parts", "message", "utterance")
_ASKED, _ANSWERS = ("user", "human"), ("assistant", "bot", "gpt", "chatbot")
_ASKED_TOO = ("input", "question", "query", "instruction", "prompt")  # if the cell is a chat
_ANSWERS_TOO = ("output", "answer", "response")
_FIRST = ("[", "{", "(", '"', "a")  # letters a conversation may begin with, as text
_CHAT_TEXT = re.compile(
    r"""\s*"?\s*(?:array\(\s*)?(?:\[|\(\s*\{|\{\s*\\?["'](?:role|from|messages|conversations?|content|value)\b)"""
)


def turns_of(value: Any) -> list:
    """The turns of a cell that holds a conversation; [] for any other cell."""
    if isinstance(value, str):
        if value.lstrip()[:1] not in _FIRST or not _CHAT_TEXT.match(value):
            return []
    elif not isinstance(value, list | tuple | dict):
        return []
    try:
        turns = turns_in(value, chosen=False)
    except RowError as error:  # a conversation that is refused when it is read
        return [{"role": "", "content": ""}] if error.code == "python_text" else []
    if not all(map(_is_turn, turns)):
        return []
    alone = isinstance(value, Mapping) and len(turns) == 1
    if alone and role_named(speaker_of(turns[0])) == "system":  # an object in a column of its own
        return []
    return turns


def _is_turn(turn: Any) -> bool:
    if isinstance(turn, list | tuple):
        return _is_pair(turn)
    if not isinstance(turn, Mapping):
        return False
    if "role" in turn or "from" in turn or turn.get("type") in ITEMS:
        return True
    keys = (*ROLE_KEYS, "type") if turn.keys() & {*CONTENT_KEYS, "data"} else ROLE_KEYS
    speaker = next((turn[key] for key in keys if turn.get(key)), None)
    if isinstance(speaker, Mapping):
        speaker = speaker.get("role")
    if isinstance(turn.get("message"), Mapping):
        return "role" in turn["message"]
    return role_named(speaker) is not None


def _is_pair(turn: Any) -> bool:
    """Whether a turn is a role and a text, as in ["human", "Hi"]."""
    return len(turn) == 2 and role_named(turn[0]) is not None and isinstance(turn[1], str)


def turns_in(value: Any, chosen: bool = True) -> list:
    """The turns of a conversation: a list, or the one a text or an object holds; [] for none.

    `chosen`: somebody said that the cell is a conversation, so that {"input", "output"} is a
    question and its answer, not a test case. Raises RowError.
    """
    value = as_list(value)
    if value and type(value[0]) is dict and ("role" in value[0] or "from" in value[0]):
        return value  # nearly always
    if len(value) == 1 and isinstance(value[0], list | tuple) and not _is_pair(value[0]):
        return turns_in(value[0], chosen)
    if value and isinstance(value[0], list | tuple) and not _is_pair(value[0]):
        _refuse_lists(value[0])
    if value and isinstance(value[0], str):
        value = [_object_in(turn) for turn in value]
    if value and isinstance(value[0], Mapping) and _has_no_role(value[0]):
        return _split(value, chosen)
    return value


def _refuse_lists(first: Any) -> None:
    """Raise RowError for a list of lists that are not a role and a text."""
    if first and isinstance(first[0], str):
        raise RowError(
            "A turn is a list of texts without a role.",
            f"If these are questions and answers, say so: {CHAT_FIX}",
        )
    fix = "Write each conversation as a row of its own."
    raise RowError("A cell holds several conversations.", fix)


def as_list(value: Any) -> list:
    """A list, or the one a text or an object holds; [] for an empty cell. Raises RowError."""
    if isinstance(value, str):
        if not value.strip():
            return []
        value = _parsed(value)
    if type(value) is list:
        return value
    if value is None:
        return []
    if isinstance(value, Mapping):
        value = _of_object(value)
    if not isinstance(value, list | tuple):
        raise RowError("The conversation is not a list of messages.", CHAT_FIX)
    return list(value)


def _parsed(text: str) -> Any:
    try:
        return value_of(text)
    except BadJSON as error:
        if error.what.startswith(LEFTOVER):
            raise RowError(error.what, error.fix, "python_text") from None
        raise RowError("The conversation is text, not a list of messages.", CHAT_FIX) from None


def _of_object(value: Mapping) -> Any:
    """The turns of an object: a table of messages, one message, or a list under a known key."""
    lists = [item for item in value.values() if isinstance(item, list | tuple)]
    same = len(lists) == len(value) and len({len(item) for item in lists}) == 1
    if same and value.keys() & {*ROLE_KEYS}:
        return [dict(zip(value, cells, strict=True)) for cells in zip(*lists, strict=True)]
    if role_named(value.get("role", value.get("from"))) and any(map(value.get, CONTENT_KEYS)):
        return [value]
    if value and all(str(key).isdecimal() for key in value):  # {"0": {…}, "1": {…}}
        return [value[key] for key in sorted(value, key=int)]
    inner = next(iter(value)) if len(value) == 1 else None
    return value[inner] if inner in _CHATS else None


def _object_in(turn: Any) -> Any:
    """The object that a turn holds as text; any other turn as it is."""
    if not isinstance(turn, str) or not turn.lstrip().startswith("{"):
        return turn
    try:
        return value_of(turn)
    except BadJSON:
        return turn


def _has_no_role(turn: Mapping) -> bool:
    return not any(key in turn for key in (*ROLE_KEYS, "type", "message")) and bool(turn)


def _split(turns: Any, chosen: bool) -> list:
    """Turns of a question and its answer, or with the role as key, as one turn a message."""
    messages = []
    for turn in turns:
        split = _one_by_one(turn, chosen) if isinstance(turn, Mapping) else None
        if split is None:
            return list(turns)
        messages += split
    return messages


def _one_by_one(turn: Mapping, chosen: bool) -> list[dict] | None:
    """The messages of {"human": …, "assistant": …}; None if the keys are not such a pair."""
    filled = {key: item for key, item in turn.items() if item not in (None, "")}
    asks = (*_ASKED, *_ASKED_TOO) if chosen else _ASKED
    answering = (*_ANSWERS, *_ANSWERS_TOO) if chosen else _ANSWERS
    asked = [key for key in filled if str(key).lower() in asks]
    answers = [key for key in filled if str(key).lower() in answering]
    system = [key for key in filled if str(key).lower() == "system"]
    if len(asked) > 1 or len(answers) > 1 or not (asked or answers or system):
        return None
    roles = [("system", system), ("user", asked), ("assistant", answers)]
    rest = {
        key: item
        for key, item in turn.items()
        if key not in {*asked, *answers, *system} and filled.get(key) is not None
    }
    if rest.keys() & {*CONTENT_KEYS}:  # {"user": "human", "text": "Hi"}
        return None
    found = [{"role": role, "content": filled[keys[0]]} for role, keys in roles if keys]
    found[-1] |= rest
    return found


def unwrapped(turn: Any) -> Mapping:
    """A turn as an object with its role and content. Raises RowError for what is none.

    ["human", "Hi"], {"type": "human", "data": {…}} and {"message": {"role", …}} are taken apart.
    """
    if isinstance(turn, list | tuple) and _is_pair(turn):
        return {"role": turn[0], "content": turn[1]}
    if isinstance(turn, str):
        what = "A message is a text without a role."
        raise RowError(what, f"Say who speaks. {CHAT_FIX}")
    if not isinstance(turn, Mapping):
        raise RowError("A message is not an object with a role and a text.", CHAT_FIX)
    inner = turn.get("message")
    if isinstance(inner, Mapping) and "role" in inner:
        return inner
    data = turn.get("data")
    if isinstance(data, Mapping) and str(turn.get("type")).lower() in TYPES:
        return {**data, "role": turn["type"], "type": None}
    return turn
