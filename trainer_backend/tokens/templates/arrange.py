"""Messages in the form that a chat template renders: its call ids, its arguments, its system text.

What is written stays the same; only its form changes, and a change that a reader of the data should
know of is reported. Nothing is rendered here.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from trainer_backend.tokens.templates.needs import Needs

NINE = re.compile(r"[A-Za-z0-9]{9}")
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
JOINT = "\n\n"  # between system text and the user's message, as in the template of Gemma 3


def fold_system(messages: Sequence[Mapping], needs: Needs) -> tuple[list[Mapping], int]:
    """Put system text that the template has no role for before the next user message.

    Returns the messages and how many were moved; one without a user message after it stays.
    """
    moved, kept, held = 0, [], []
    for at, message in enumerate(messages):
        role = message.get("role")
        if role == "system" and not (needs.later_system if at else needs.system):
            held.append(message)
            continue
        if held and role == "user":
            texts = [_plain(one) for one in held]
            message = {**message, "content": _before(message.get("content"), texts)}
            moved += len(held)
            held = []
        elif held:
            kept += held
            held = []
        kept.append(message)
    return kept + held, moved


def _plain(message: Mapping) -> str:
    content = message.get("content")
    if isinstance(content, list | tuple):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return content or ""


def _before(content: Any, texts: list[str]) -> Any:
    first = "".join(text + JOINT for text in texts if text)
    if isinstance(content, list | tuple):
        return [{"type": "text", "text": first}, *content]
    return first + (content or "")


def suit_calls(messages: list[dict], needs: Needs) -> list[dict]:
    """Calls and the answers of tools in the template's form; ids are made where it wants some."""
    ids = list(_call_ids(messages, needs))
    names = {number: name for number, name, _ in ids}
    numbers = iter([number for number, _, _ in ids])
    waiting: list[str] = []
    renamed = {old: number for number, _, old in ids if old}
    suited = []
    for message in messages:
        if message.get("tool_calls"):
            own = [next(numbers) for _ in message["tool_calls"]]
            waiting += own
            message = _with_calls(message, own, needs)
        elif message.get("role") == "tool":
            old = str(message.get("tool_call_id") or "")
            number = renamed.get(old) or _next(waiting, names, message.get("name"))
            if number in waiting:
                waiting.remove(number)
            message = _answered(message, number, names.get(number, ""), needs)
        suited.append(message)
    return suited


def _next(waiting: list[str], names: dict[str, str], name: str | None) -> str:
    """The first open call, of the named function if there is one."""
    return next((one for one in waiting if names[one] == name), waiting[0] if waiting else "")


def _call_ids(messages: list[dict], needs: Needs) -> Iterator[tuple[str, str, str]]:
    """Of each call: the id to use, the function's name, and the id it has in the data."""
    used: set[str] = set()
    calls = (call for message in messages for call in message.get("tool_calls") or ())
    for place, call in enumerate(calls):
        old = str(call.get("id") or "") if isinstance(call, Mapping) else ""
        good = old and old not in used and (needs.ids != "nine" or NINE.fullmatch(old))
        number = old if good else _letters(f"{place} {old}")
        used.add(number)
        yield number, _function(call).get("name") or "", old


def _letters(seed: str) -> str:
    """Nine letters or digits, always the same for the same seed."""
    number = int.from_bytes(sha256(seed.encode("utf-8", "surrogatepass")).digest()[:8])
    return "".join(LETTERS[number // len(LETTERS) ** place % len(LETTERS)] for place in range(9))


def _function(call: Any) -> dict:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    return dict(function) if isinstance(function, Mapping) else {}


def _with_calls(message: dict, numbers: list[str], needs: Needs) -> dict:
    pairs = zip(message["tool_calls"], numbers, strict=True)
    calls = [_call(call, number, needs) for call, number in pairs]
    message = {**message, "tool_calls": calls}
    if not message.get("content"):
        message.pop("content", None)
        if needs.beside != "absent":
            message["content"] = "" if needs.beside == "text" else None
    return message


def _call(call: Any, number: str, needs: Needs) -> Any:
    function = _function(call)
    if not function.get("name"):
        return call
    function.pop("id", None)
    arguments = function.get("arguments")
    if needs.text_arguments and not isinstance(arguments, str):
        function["arguments"] = json.dumps(arguments or {}, ensure_ascii=False)
    elif not needs.text_arguments and isinstance(arguments, str):
        function["arguments"] = _parsed(arguments)
    outer = {key: item for key, item in call.items() if key != "function"}
    if "function" not in call:
        outer = {key: call[key] for key in ("id",) if key in call}
    if needs.ids:
        outer["id"] = number
    if needs.bare_calls:
        return outer | function
    return {"type": "function", **outer, "function": function}


def _parsed(arguments: str) -> Any:
    """The object that a text of arguments holds; the text itself when it holds none."""
    try:
        parsed = json.loads(arguments) if arguments.strip() else {}
    except ValueError:
        return arguments
    return parsed if isinstance(parsed, dict) else arguments


def _answered(message: dict, number: str, name: str, needs: Needs) -> dict:
    given = dict(message)
    if needs.names and name and not given.get("name"):
        given["name"] = name
    if needs.ids and number:
        given["tool_call_id"] = number
    return given


def suit_tools(tools: list | None, needs: Needs) -> list | None:
    """The tools of a row with or without the object around each function, as the template wants."""
    if not tools or not needs.bare_tools:
        return tools
    return [tool.get("function", tool) if isinstance(tool, Mapping) else tool for tool in tools]
