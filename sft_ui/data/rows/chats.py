"""A conversation as bubbles: short in a cell of the table, whole in the card of a row.

Also marks what was searched for. Reads examples; knows no files.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from sft_ui import markup
from trainer_backend.data.formats import Example

CELL_TURNS, CELL_CHARS, CARD_CHARS = 4, 150, 20_000
BEFORE_HIT = 60  # characters kept in front of the first hit
SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool result"}
_BUBBLE = Markup('<div class="bubble {}"><b>{}</b>{}</div>')


def marked(text: str, query: str, length: int) -> Markup | str:
    """At most `length` characters around the first hit of a search, with every hit marked."""
    pattern = re.escape(query.strip())
    hit = re.search(pattern, text, re.IGNORECASE) if pattern else None
    if hit is None:
        return text if len(text) <= length else text[:length] + "…"
    start = max(0, hit.start() - BEFORE_HIT) if hit.end() > length else 0
    shown = text[start : start + length]
    parts = re.split(f"({pattern})", shown, flags=re.IGNORECASE)
    pieces = (
        Markup("<mark>{}</mark>").format(one) if at % 2 else Markup.escape(one)
        for at, one in enumerate(parts)
    )
    ends = ("…" if start else "", "…" if start + length < len(text) else "")
    return Markup("{}{}{}").format(ends[0], Markup().join(pieces), ends[1])


def chat_cell(example: Example, query: str = "") -> Markup:
    """The first turns of a conversation, or those with a hit, each in a line or two."""
    messages = list(example.messages or ())
    hits = [one for one in messages if query.strip() and _has(one, query)]
    shown = (hits or messages)[:CELL_TURNS]
    inside = Markup().join(
        _BUBBLE.format(
            _kind(one), _speaker(one), marked(_line(one), query, CELL_CHARS) or Markup("&nbsp;")
        )
        for one in shown
    )
    rest = len(messages) - len(shown)
    turns = "1 more message" if rest == 1 else f"{rest:,} more messages"
    more = Markup('<span class="quiet">{}</span>').format(turns) if rest else ""
    return Markup('<div class="chat-cell">{}{}</div>').format(inside, more)


def chat_bubbles(example: Example) -> Markup:
    """The whole conversation: who says what, thoughts and tools folded, calls as JSON."""
    turns = Markup().join(
        _BUBBLE.format(_kind(one), _speaker(one), _inside(one)) for one in example.messages or ()
    )
    return Markup('<div class="bubbles">{}{}</div>').format(_tools(example.tools), turns)


def _has(message: dict, query: str) -> bool:
    return query.strip().casefold() in _line(message).casefold()


def _kind(message: dict) -> str:
    return message["role"] if message["role"] in SPEAKERS else "user"


def _speaker(message: dict) -> str:
    return SPEAKERS.get(message["role"], str(message["role"]).capitalize())


def _text(message: dict) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else "" if content is None else str(content)


def _thought(message: dict) -> str:
    return str(message.get("reasoning_content") or message.get("thinking") or "")


def _calls(message: dict) -> list[tuple[str, Any]]:
    """(name, arguments) of the tools that a message calls."""
    calls = [one for one in message.get("tool_calls") or () if isinstance(one, dict)]
    functions = [one.get("function", one) for one in calls]
    return [(str(one.get("name", "")), one.get("arguments", "")) for one in functions]


def _line(message: dict) -> str:
    calls = [f"calls {name}({_json(arguments, None)})" for name, arguments in _calls(message)]
    return " ".join(filter(None, [_text(message), *calls])) or _thought(message)


def _json(value: Any, indent: int | None) -> str:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return value
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _inside(message: dict) -> Markup:
    thought, text = _thought(message), _text(message)
    parts: list[Markup | str] = []
    if thought:
        parts.append(markup.more("Reasoning", Markup("<p>{}</p>").format(_cut(thought))))
    if message["role"] == "tool" and len(text) > CELL_CHARS:
        parts.append(markup.more(f"{text[:60]}…", Markup("<pre>{}</pre>").format(_cut(text))))
    elif text:
        parts.append(Markup("<p>{}</p>").format(_cut(text)))
    for name, arguments in _calls(message):
        template = Markup('<div class="tool-call">Calls <code>{}</code><pre>{}</pre></div>')
        parts.append(template.format(name, _cut(_json(arguments, 2))))
    return Markup().join(parts)


def _cut(text: str) -> str:
    return text if len(text) <= CARD_CHARS else text[:CARD_CHARS] + "…"


def tool_names(tools: Sequence) -> str:
    """How many tools there are, and their names."""
    known = [one.get("function", one) if isinstance(one, dict) else {} for one in tools]
    names = ", ".join(str(one.get("name", "?")) for one in known)
    return f"{'1 tool' if len(tools) == 1 else f'{len(tools):,} tools'}: {names}"


def _tools(tools: Sequence | None) -> Markup | str:
    """The tools that the model is offered, folded."""
    if not tools:
        return ""
    body = Markup("<pre>{}</pre>").format(_cut(_json(list(tools), 2)))
    return markup.more(tool_names(tools), body)
