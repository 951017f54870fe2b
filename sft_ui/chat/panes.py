"""The two sides of a conversation as HTML: texts, pictures, thoughts and calls.

Every text is escaped. Knows no components and no model.
"""

import json
from typing import Any

from markupsafe import Markup

from sft_ui import markup
from sft_ui.chat.conversation import SIDES, Talk, Turn, Turns

LABELS = {"base": "Base model", "tuned": "Tuned model"}
WAITING = "…"
CUT = {
    "stopped": "You stopped this answer",
    "limit": "Cut off at the maximum answer tokens",
}


def pane(side: str, turns: Turns) -> Markup:
    """One side as HTML."""
    label = LABELS[side]
    shown = markup.each(
        Markup('<div class="turn {}">{}</div>'), ((turn["role"], _inside(turn)) for turn in turns)
    )
    template = Markup(
        '<section class="chat" role="log" aria-label="{label}"><h3>{label}</h3>{turns}</section>'
    )
    nothing = markup.line("No answer yet", "quiet")
    return template.format(label=label, turns=shown or nothing)


def panes(talk: Talk) -> list[Markup]:
    """Both sides as HTML: [base, tuned]."""
    return [pane(side, talk[side]) for side in SIDES]


def _inside(turn: Turn) -> Markup:
    reasoning, content, calls = (turn.get(name) for name in ("reasoning", "content", "calls"))
    parts = [
        _thought(reasoning, still_open=not (content or calls)) if reasoning else "",
        Markup('<span class="who">Tool result</span>') if turn["role"] == "tool" else "",
        markup.each(PICTURE, ((f"{SERVED}{path}",) for path in turn.get("images") or ())),
        content
        or ("" if reasoning or calls or turn.get("cut") else turn.get("waiting") or WAITING),
        call_cards(calls or []),
        Markup('<span class="who cut-note">{}</span>').format(CUT[turn["cut"]])
        if turn.get("cut")
        else "",
    ]
    return Markup().join(parts)


PICTURE = Markup('<img class="seen" src="{}" alt="Your picture">')
SERVED = "gradio_api/file="  # the page's own address of a file


def _thought(text: str, still_open: bool) -> Markup:
    template = Markup('<details class="thought"{}><summary>Thought</summary>{}</details>')
    return template.format(Markup(" open") if still_open else "", text)


def call_cards(calls: list[dict[str, Any]]) -> Markup:
    """Calls of tools: the name, and the arguments as indented JSON."""
    template = Markup(
        '<div class="call"><span class="who">Calls</span> <b>{}</b><pre>{}</pre></div>'
    )
    rows = ((call["name"], _indented(call["arguments"])) for call in calls)
    return markup.each(template, rows)


def _indented(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)
