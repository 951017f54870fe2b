"""Conversations in any known form as lists of messages, and what can be wrong with them.

A cell becomes turns, and a turn one or several messages of one canonical form: role, content,
reasoning_content, tool_calls, tool_call_id, name, train. Columns and mappings are not known.
"""

from typing import Any

from trainer_backend.data.formats.conversations.calls import is_filled
from trainer_backend.data.formats.conversations.notes import Say, keep_quiet
from trainer_backend.data.formats.conversations.parts import OnImage, ReadText, Ways
from trainer_backend.data.formats.conversations.reader import TurnReader
from trainer_backend.data.formats.conversations.roles import PLAIN_ROLES
from trainer_backend.data.formats.conversations.turns import turns_in
from trainer_backend.data.json_values import cell_text
from trainer_backend.errors import RowError

FILL_IN = "Fill it in, or leave the row out."


def to_messages(
    value: Any,
    on_image: OnImage | None = None,
    text: ReadText = cell_text,
    say: Say = keep_quiet,
) -> list[dict]:
    """A conversation (a list, or its text) as [{"role", "content", …}] in canonical form.

    [{"from": "human", "value": "Hi"}] → [{"role": "user", "content": "Hi"}]. An image part becomes
    “<image>” in the content and is given to `on_image`; `say` is told what was left out or taken
    in one of two ways. Raises RowError.
    """
    if type(value) is list:
        messages = _plain_messages(value)
        if messages:
            return messages
    turns = turns_in(value)
    if not turns:
        raise RowError("The conversation is empty.", "Fill it in, or remove the row.")
    if turns is not value:
        messages = _plain_messages(turns)
        if messages:
            return messages
    reader = TurnReader(Ways(on_image, text, say), is_filled(turns))
    for turn in turns:
        reader.read(turn)
    return reader.finish()


def _plain_messages(turns: list) -> list[dict]:
    """The messages of turns that are only a known role and a text, as most are; else []."""
    messages = []
    for turn in turns:
        if type(turn) is not dict or len(turn) != 2:
            return []
        if "content" in turn:
            speaker, content = turn.get("role"), turn["content"]
        else:
            speaker, content = turn.get("from"), turn.get("value")
        if type(speaker) is not str or type(content) is not str:
            return []
        role = PLAIN_ROLES.get(speaker)
        if role is None or (content[:1] == "[" and content[:2] == "[{"):
            return []
        messages.append({"role": role, "content": content})
    return messages


def refuse_untaught(messages: list[dict]) -> None:
    """Raise RowError for an empty message, and for a conversation without a trained answer."""
    answered = taught = False
    for message in messages:
        if not (message["content"].strip() or message.get("tool_calls")):
            _refuse_empty(message)
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
            "Remove the mark (train: false, loss: false or weight: 0) from the answers to learn.",
        )


def _refuse_empty(message: dict) -> None:
    if message["role"] == "assistant":
        thinks = message.get("reasoning_content")
        what = "The answer is only reasoning, without a text." if thinks else "The answer is empty."
        raise RowError(what, FILL_IN, "empty_answer")
    if message["role"] == "user":
        raise RowError("A user message is empty.", FILL_IN, "empty_prompt")


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
