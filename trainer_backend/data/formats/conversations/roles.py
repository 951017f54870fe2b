"""Who speaks: the one table of role names, and how a turn says its role.

Nothing of what is said is read here.
"""

from collections.abc import Mapping
from typing import Any

from trainer_backend.data.formats.mapping import plain_name
from trainer_backend.data.json_values import cell_text
from trainer_backend.errors import RowError

ROLES = {
    "user": "user", "human": "user", "prompter": "user", "customer": "user", "usr": "user",
    "用户": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "model": "assistant", "ai": "assistant", "bing": "assistant", "bard": "assistant",
    "agent": "assistant", "chatbot": "assistant", "gpt4": "assistant", "gpt_4": "assistant",
    "claude": "assistant", "gemini": "assistant", "llm": "assistant", "助手": "assistant",
    "function_call": "assistant", "tool_call": "assistant", "tool_calls": "assistant",
    "functioncall": "assistant", "function_calls": "assistant",
    "system": "system", "developer": "system", "system_prompt": "system",
    "system_message": "system", "系统": "system",
    "tool": "tool", "tools": "tool", "function": "tool", "observation": "tool",
    "function_response": "tool", "function_result": "tool", "function_output": "tool",
    "tool_response": "tool", "tool_result": "tool", "tool_results": "tool", "tool_output": "tool",
    "ipython": "tool",
}  # fmt: skip
_CALLS = {"function_call", "tool_call", "tool_calls", "functioncall", "function_calls"}
PLAIN_ROLES = {name: role for name, role in ROLES.items() if name not in _CALLS | {"tools"}}
ROLE_KEYS = ("role", "from", "speaker", "author", "sender")
TYPES = {"human", "ai", "user", "assistant", "system", "tool"}  # roles under “type”
FIX = "Use user, assistant, system or tool."
CHAT_FIX = 'Write it as [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}].'
_HINTS = {
    "thought": "Write its text as “reasoning_content” of the answer that follows.",
    "thinking": "Write its text as “reasoning_content” of the answer that follows.",
    "reasoning": "Write its text as “reasoning_content” of the answer that follows.",
}


def role_named(name: Any) -> str | None:
    """The role that a name stands for: “CHATBOT” → “assistant”; None if it is not known."""
    if not isinstance(name, str):
        return None
    return ROLES.get(name) or ROLES.get(plain_name(name))


def holds_calls(name: Any) -> bool:
    """Whether a role's name says that the text of its messages is tool calls."""
    return isinstance(name, str) and plain_name(name) in _CALLS


def is_tools(name: Any) -> bool:
    """Whether a role's name is “tools”: results of tools, or the tools themselves."""
    return isinstance(name, str) and plain_name(name) == "tools"


def speaker_of(turn: Mapping) -> Any:
    """What a turn says of its speaker, whatever the key; None if it says nothing.

    Raises RowError where two keys name two roles.
    """
    found: dict[str, Any] = {}
    for key in ROLE_KEYS:
        value = turn.get(key)
        if isinstance(value, Mapping):  # as {"role": …, "name": …}
            value = value.get("role")
        if value is not None and value != "":
            found[key] = value
    if not found and str(turn.get("type")).lower() in TYPES:
        return turn["type"]
    known = {key: role_named(value) for key, value in found.items()}
    certain = [key for key, role in known.items() if role]
    if len({known[key] for key in certain}) > 1:
        first, second = certain[:2]
        what = f"A message has “{first}” and “{second}”, and they name different roles."
        raise RowError(what, "Keep the one that says who speaks.")
    return found[certain[0]] if certain else next(iter(found.values()), None)


def role_of(speaker: Any, turn: Mapping) -> str:
    """The role of a turn with this speaker. Raises RowError for none and for an unknown one."""
    role = role_named(speaker)
    if role:
        return role
    if speaker is None:
        keys = ", ".join(f"“{str(key)[:40]}”" for key in list(turn)[:6])
        raise RowError(f"A message has no role{f'; it has {keys}' if keys else ''}.", CHAT_FIX)
    name = cell_text(speaker)[:40]
    raise RowError(f"Unknown role “{name}”.", _HINTS.get(plain_name(name), FIX))
