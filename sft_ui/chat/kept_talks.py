"""Conversations kept in the browser, one for each run, so that a reload does not lose them.

Only texts are kept: what comes back from a browser is read as text, never as a file.
"""

import json
from typing import Any

import gradio as gr

from sft_ui.chat.conversation import SIDES, Talk, Turn, Turns, answered, new_conversation

MOST_RUNS = 6
MOST_LETTERS = 200_000  # of one conversation; a browser keeps 5 MB for a site
_CUTS = ("stopped", "limit")
Talks = dict[str, Any]  # {run: talk}, the latest last


def build_talks() -> gr.BrowserState:
    """The kept conversations. Built outside the tabs: inside one, a browser reads them too late."""
    return gr.BrowserState({}, storage_key="sft-studio-chats", secret="sft-studio")


def with_talk(kept: Any, run: str, talk: Talk) -> Talks:
    """The kept conversations with this one; without turns it is forgotten."""
    talks = dict(kept) if isinstance(kept, dict) else {}
    talks.pop(run, None)
    texts = {side: [_as_text(turn) for turn in answered(talk[side])] for side in SIDES}
    if run and any(texts.values()) and len(json.dumps(texts)) <= MOST_LETTERS:
        talks[run] = texts
    return dict(list(talks.items())[-MOST_RUNS:])


def talk_of(kept: Any, run: str) -> Talk:
    """The conversation kept for a run; a new one if there is none or it cannot be read."""
    found = kept.get(run) if isinstance(kept, dict) else None
    if not isinstance(found, dict):
        return new_conversation()
    return {side: _turns(found.get(side)) for side in SIDES}


def _as_text(turn: Turn) -> Turn:
    """A turn without its pictures, which only this visit can show; the number is noted."""
    kept = {name: value for name, value in turn.items() if name != "images"}
    lost = len(turn.get("images") or ()) + int(turn.get("lost_images") or 0)
    return {**kept, "lost_images": lost} if lost else kept


def _turns(found: Any) -> Turns:
    turns = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    return [_turn(one) for one in turns if one.get("role") in ("user", "assistant", "tool")]


def _turn(one: dict[str, Any]) -> Turn:
    turn: Turn = {"role": one["role"], "content": str(one.get("content") or "")}
    calls = [call for call in one.get("calls") or () if isinstance(call, dict)]
    calls = [call for call in calls if isinstance(call.get("name"), str) and "arguments" in call]
    known: dict[str, Any] = {
        "reasoning": str(one.get("reasoning") or ""),
        "name": str(one.get("name") or ""),
        "calls": [{"name": call["name"], "arguments": call["arguments"]} for call in calls],
        "cut": one.get("cut") if one.get("cut") in _CUTS else "",
        "corrected": bool(one.get("corrected")),
        "tokens": _number(one.get("tokens"), int),
        "seconds": _number(one.get("seconds"), float),
        "lost_images": _number(one.get("lost_images"), int),
        "asked": _asked(one.get("asked")),
    }
    return turn | {name: value for name, value in known.items() if value}


def _asked(found: Any) -> dict[str, Any]:
    """What an answer was asked with, if it is known."""
    if not isinstance(found, dict):
        return {}
    tools, step = found.get("tools"), found.get("checkpoint")
    return {
        "system": str(found.get("system") or ""),
        "tools": tools if isinstance(tools, list) else [],
        "thinking": str(found.get("thinking") or "auto"),
        "checkpoint": step if isinstance(step, int) else -1,
    }


def _number(value: Any, kind: type) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return kind(value) if is_number and 0 <= value < 10**9 else 0
