"""Conversations in any known form as lists of messages, and what can be wrong with them.

The one table of role names, the train marks and the forms of tool calls live here. Columns and
mappings are not known.
"""

from collections.abc import Callable, Mapping
from typing import Any

from trainer_backend.data.images import IMAGE_MARK
from trainer_backend.data.json_values import BadJSON, cell_text, parse
from trainer_backend.errors import RowError

ROLES = {
    "user": "user", "human": "user", "prompter": "user", "customer": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "model": "assistant", "ai": "assistant", "bing": "assistant", "bard": "assistant",
    "agent": "assistant", "function_call": "assistant",
    "system": "system", "developer": "system",
    "tool": "tool", "function": "tool", "observation": "tool", "function_response": "tool",
    "ipython": "tool",
}  # fmt: skip
TRAIN_MARKS = ("train", "training", "weight")
OnImage = Callable[[dict], None]  # is given each message part that holds an image
ReadText = Callable[[Any], str]  # turns a cell that is neither text nor a list of parts into text
_MAPPED_KEYS = {"role", "from", "content", "value", *TRAIN_MARKS}
FILL_IN = "Fill it in, or leave the row out."
CALL_FIX = 'Write it as {"name": "…", "arguments": {…}}.'
CHAT_FIX = 'Write it as [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}].'


def to_messages(
    value: Any, on_image: OnImage | None = None, text: ReadText = cell_text
) -> list[dict]:
    """A conversation (a list, or its JSON text) as [{"role", "content", …}].

    [{"from": "human", "value": "Hi"}] → [{"role": "user", "content": "Hi"}]. An image part becomes
    “<image>” in the content and is given to `on_image`. Raises RowError.
    """
    turns = as_list(value)
    if not turns:
        raise RowError("The conversation is empty.", "Fill it in, or remove the row.")
    return [_message(turn, on_image, text) for turn in turns]


def refuse_untaught(messages: list[dict]) -> None:
    """Raise RowError for an empty message, and for a conversation without a trained answer."""
    answered = taught = False
    for message in messages:
        if not (message["content"].strip() or message.get("tool_calls")):
            _refuse_empty(message["role"])
        if message["role"] == "assistant":
            answered = True
            taught = taught or message.get("train") is not False
    if not answered:
        raise RowError(
            "The conversation has no assistant message, so there is nothing to learn.",
            "Add the answer the model should give.",
        )
    if not taught:
        raise RowError(
            "Every answer of the conversation is marked as not to be trained.",
            "Remove the mark (train: false or weight: 0) from the answers to learn.",
        )


def _refuse_empty(role: str) -> None:
    if role == "assistant":
        raise RowError("The answer is empty.", FILL_IN, "empty_answer")
    if role == "user":
        raise RowError("A user message is empty.", FILL_IN, "empty_prompt")


def as_list(value: Any) -> list:
    """A list, or the one a text holds as JSON; [] for an empty cell. Raises RowError."""
    if isinstance(value, str):
        if not value.strip():
            return []
        try:
            value = parse(value)
        except BadJSON:
            raise RowError("The conversation is text, not a list of messages.", CHAT_FIX) from None
    if value is None:
        return []
    if isinstance(value, dict):
        value = _from_columns(value)
    if not isinstance(value, list):
        raise RowError("The conversation is not a list of messages.", CHAT_FIX)
    return value


def _from_columns(value: dict) -> list | None:
    """{"role": [...], "content": [...]} as a list of messages: how some tables store them."""
    lists = [item for item in value.values() if isinstance(item, list)]
    same = len(lists) == len(value) and len({len(item) for item in lists}) == 1
    if not same or not value.keys() & {"role", "from"}:
        return None
    return [dict(zip(value, cells, strict=True)) for cells in zip(*lists, strict=True)]


def _message(turn: Any, on_image: OnImage | None, text: ReadText) -> dict:
    if not isinstance(turn, dict):
        raise RowError("A message is not an object with a role and a text.", CHAT_FIX)
    speaker, content = turn.get("role"), turn.get("content")
    if speaker is None:
        speaker = turn.get("from")
    if content is None:
        content = turn.get("value")
    role = ROLES.get(speaker) if isinstance(speaker, str) else None
    if not isinstance(content, str):
        content = _content(content, on_image, text)
    message: dict[str, Any] = {"role": role or _role(speaker), "content": content}
    if len(turn) != 2 or not ("content" in turn or "value" in turn):
        message |= _other_keys(turn)
    if speaker == "function_call":
        message |= {"content": "", "tool_calls": [_tool_call(message["content"])]}
    return message


def _role(speaker: Any) -> str:
    role = ROLES.get(speaker.strip().lower()) if isinstance(speaker, str) else None
    if role is None and speaker is None:
        raise RowError("A message has no role.", CHAT_FIX)
    if role is None:
        fix = "Use user, assistant, system or tool."
        raise RowError(f"Unknown role “{cell_text(speaker)[:40]}”.", fix)
    return role


def _other_keys(turn: dict) -> dict:
    """The keys beside role and content: tool calls and train marks are unified, others kept."""
    kept = {k: item for k, item in turn.items() if k not in _MAPPED_KEYS and item is not None}
    calls = kept.get("tool_calls")
    if calls is not None:
        if not isinstance(calls, list):
            raise RowError("The tool calls of a message are not a list.", CALL_FIX)
        kept["tool_calls"] = [_tool_call(call) for call in calls]
    if not is_trained(turn):
        kept["train"] = False
    return kept


def is_trained(turn: Mapping) -> bool:
    """Whether a message is trained on: not with `train: false`, `training: false`, `weight: 0`.

    Raises RowError for a mark with any other value.
    """
    for key in TRAIN_MARKS:
        mark = turn.get(key)
        if mark is None:
            continue
        if mark not in (0, 1, "0", "1"):  # True and False are 1 and 0
            raise RowError(
                f"A message has “{key}” other than true, false, 0 or 1.",
                "Use weight 0 (or train: false) for messages that are not to be trained on.",
            )
        if mark in (0, "0"):
            return False
    return True


def _content(value: Any, on_image: OnImage | None, text: ReadText) -> str:
    """Content that is not text: the parts joined, null as ""."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        parts = [part if isinstance(part, str) else _part_text(part, on_image) for part in value]
        return "".join(parts)
    return text(value)


def _part_text(part: Any, on_image: OnImage | None) -> str:
    if not isinstance(part, dict):
        raise RowError("A message holds something other than text.", CHAT_FIX)
    kind = part.get("type", "text")
    if kind in ("text", "input_text", "output_text") and part.get("text") is not None:
        return cell_text(part["text"])
    if kind in ("image", "image_url", "input_image"):
        if on_image:
            on_image(part)
        return IMAGE_MARK
    if kind in ("audio", "input_audio", "video"):
        raise RowError(
            "A message holds audio or video; only text and images can be trained on.",
            "Remove such rows, or keep only their text.",
        )
    raise RowError("A message holds something other than text.", CHAT_FIX)


def _tool_call(value: Any) -> dict:
    """{"type": "function", "function": {"name", "arguments": {…}}}, as chat templates expect."""
    if isinstance(value, str):
        value = _parsed(value, "A function call is not JSON with a name and arguments.")
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError("A function call is not JSON with a name and arguments.", CALL_FIX)
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        what = "The arguments of a function call are not JSON."
        arguments = _parsed(arguments, what) if arguments.strip() else {}
    if not isinstance(arguments, dict | None):
        raise RowError("The arguments of a function call are not an object.", CALL_FIX)
    outer = {key: item for key, item in value.items() if value is not function and item is not None}
    return {"type": "function", **outer} | {
        "function": {"name": function["name"], "arguments": arguments or {}}
    }


def _parsed(text: str, what: str) -> Any:
    try:
        return parse(text)
    except BadJSON:
        raise RowError(what, CALL_FIX) from None


def with_system(messages: list[dict], system_prompt: str) -> list[dict]:
    """The messages after a system message, unless they have one or the prompt is empty."""
    if not system_prompt or messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": system_prompt}, *messages]


def order_problem(messages: list[dict]) -> tuple[str, str] | None:
    """(what, fix) for an unusual order of roles; None if user and assistant alternate."""
    roles = [message["role"] for message in messages]
    body = roles[1:] if roles[0] == "system" else roles
    if "system" in body:
        return "A system message stands in the middle.", "Move it to the beginning."
    if body[0] != "user":
        return "The conversation does not begin with the user.", "Add the user's message before it."
    pairs = list(zip(body, body[1:], strict=False))
    if ("user", "user") in pairs:
        return "Two user messages in a row.", "Join them, or add the assistant's reply between."
    if ("assistant", "assistant") in pairs:
        return "Two assistant messages in a row.", "Join them, or add the user's message between."
    if body[-1] != "assistant":
        return (
            "The conversation does not end with an answer; its last message teaches nothing.",
            "Add the answer, or remove the last message.",
        )
    return None
