"""One conversation, however it was written, as a list of messages; its faults as sentences.

Which column holds it is decided in formats.py.
"""

from typing import Any

from trainer_backend.data.json_values import BadJSON, cell_text, parse

ROLES = {
    "user": "user", "human": "user", "prompter": "user", "customer": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "model": "assistant", "ai": "assistant", "bing": "assistant", "bard": "assistant",
    "agent": "assistant", "function_call": "assistant",
    "system": "system", "developer": "system",
    "tool": "tool", "function": "tool", "observation": "tool", "function_response": "tool",
    "ipython": "tool",
}  # fmt: skip
CHAT_FIX = 'Write it as [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}].'


class RowError(Exception):
    """Why one row cannot be used, and how to fix it. `what` is the same for all rows alike."""

    def __init__(self, what: str, fix: str):
        super().__init__(what)
        self.what, self.fix = what, fix


def to_messages(value: Any) -> list[dict]:
    """A messages or ShareGPT cell (a list, or its JSON text) as messages; roles are mapped."""
    turns = as_list(value)
    if not turns:
        raise RowError("The conversation is empty.", "Fill it in, or remove the row.")
    messages = [_message(turn) for turn in turns]
    if not any(message["role"] == "assistant" for message in messages):
        raise RowError(
            "The conversation has no assistant message, so there is nothing to learn.",
            "Add the answer the model should give.",
        )
    return messages


def as_list(value: Any) -> list:
    """A list, or the list that a text holds as JSON; RowError for anything else."""
    if isinstance(value, str):
        if not value.strip():
            return []
        try:
            value = parse(value)
        except BadJSON:
            raise RowError("The conversation is text, not a list of messages.", CHAT_FIX) from None
    if value is None:
        return []
    if not isinstance(value, list):
        raise RowError("The conversation is not a list of messages.", CHAT_FIX)
    return value


def _message(turn: Any) -> dict:
    if not isinstance(turn, dict):
        raise RowError("A message is not an object with a role and a text.", CHAT_FIX)
    said = turn.get("role", turn.get("from"))
    role = ROLES.get(said.strip().lower()) if isinstance(said, str) else None
    if role is None:
        if said is None:
            raise RowError("A message has no role.", CHAT_FIX)
        known = "user, assistant, system or tool"
        raise RowError(f"Unknown role “{cell_text(said)[:40]}”.", f"Use {known}.")
    content = _content(turn.get("content", turn.get("value")))
    message = {"role": role, "content": content}
    message |= {
        key: item
        for key, item in turn.items()
        if key not in ("role", "from", "content", "value") and item is not None
    }
    if said == "function_call":
        message |= {"content": "", "tool_calls": _function_call(content)}
    _refuse_empty(message)
    return message


def _content(value: Any) -> str:
    """Text as it is; text parts ({"type": "text"}) are put one after another."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list):
        parts = [part if isinstance(part, str) else _part_text(part) for part in value]
        return "".join(parts)
    return cell_text(value)


def _part_text(part: Any) -> str:
    if isinstance(part, dict) and part.get("type", "text") == "text" and "text" in part:
        return cell_text(part["text"])
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("image", "image_url", "audio", "input_audio", "video"):
        raise RowError(
            "A message holds a picture, sound or film; only text is trained.",
            "Remove such rows, or keep only their text.",
        )
    raise RowError("A message holds something other than text.", CHAT_FIX)


def _function_call(text: str) -> list[dict]:
    try:
        call = parse(text)
    except BadJSON:
        call = None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise RowError(
            "A function call is not JSON with a name and arguments.",
            'Write it as {"name": "…", "arguments": {…}}.',
        )
    function = {"name": call["name"], "arguments": call.get("arguments", {})}
    return [{"type": "function", "function": function}]


def _refuse_empty(message: dict) -> None:
    if message["content"].strip() or message.get("tool_calls") or message["role"] == "tool":
        return
    if message["role"] == "assistant":
        raise RowError("The answer is empty.", "Fill it in, or leave the row out.")
    if message["role"] == "user":
        raise RowError("A user message is empty.", "Fill it in, or leave the row out.")


def with_system(messages: list[dict], system_prompt: str) -> list[dict]:
    """Put the system prompt first, unless the conversation brings its own."""
    if not system_prompt or messages[0]["role"] == "system":
        return messages
    return [{"role": "system", "content": system_prompt}, *messages]


def order_problem(messages: list[dict]) -> tuple[str, str] | None:
    """What is odd about the order of the roles, and how to fix it; None if it is in order."""
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
