"""The two sides of a conversation as HTML: texts, pictures, thoughts, calls, and what to do.

Every text is escaped. Knows no components and no model.
"""

import json
from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.chat.conversation import SIDES, Talk, Turn, Turns
from sft_ui.theme import static_text

LABELS = {"base": "Base model", "tuned": "Tuned model"}
WAITING = "…"
CUT = {
    "stopped": "You stopped this answer",
    "limit": "Cut off at the maximum answer tokens",
}
REPEATS = (
    "It repeats itself. A model does so when its answers have no end, or after too much training "
    "on too little; a Temperature above 0 may help."
)
LOST = "A picture is not kept over a reload; send it again to ask about it."
LONGEST_UNIT, LEAST_TIMES, LEAST_LETTERS = 200, 4, 60  # of a text that repeats itself


def build_pane(side: str) -> gr.HTML:
    """One side; its buttons fire `edit`, `retry` and `correct` with {side, at}."""
    return gr.HTML(
        pane(side, []),
        elem_id=f"chat-{side}",
        min_width=280,
        js_on_load=static_text("chat/pane.js"),
    )


def pane(side: str, turns: Turns, is_busy: bool = False) -> Markup:
    """One side as HTML; `is_busy`: an answer is being written."""
    label, last = LABELS[side], len(turns) - 1
    shown = markup.each(
        Markup('<div class="turn {}">{}</div>{}'),
        (
            (turn["role"], _inside(turn), "" if is_busy else _below(side, at, turn, at == last))
            for at, turn in enumerate(turns)
        ),
    )
    template = Markup(
        '<section class="chat" data-side="{side}" role="log" aria-live="polite" '
        'aria-busy="{busy}" aria-label="{label}"><h3>{label}</h3>{turns}</section>'
    )
    nothing = markup.line("No answer yet", "quiet")
    busy = "true" if is_busy else "false"
    return template.format(side=side, busy=busy, label=label, turns=shown or nothing)


def panes(talk: Talk, is_busy: bool = False) -> list[Markup]:
    """Both sides as HTML: [base, tuned]."""
    return [pane(side, talk[side], is_busy) for side in SIDES]


def repeats(text: str) -> bool:
    """Whether a text ends in the same words again and again."""
    text = text.rstrip()
    for unit in range(1, min(LONGEST_UNIT, len(text) // LEAST_TIMES) + 1):
        times = max(LEAST_TIMES, -(-LEAST_LETTERS // unit))
        if len(text) >= unit * times and text[-unit * times :] == text[-unit:] * times:
            return True
    return False


def _inside(turn: Turn) -> Markup:
    reasoning, content, calls = (turn.get(name) for name in ("reasoning", "content", "calls"))
    parts = [
        _thought(reasoning, still_open=not (content or calls)) if reasoning else "",
        Markup('<span class="who">Tool result</span>') if turn["role"] == "tool" else "",
        markup.each(PICTURE, ((f"{SERVED}{path}",) for path in turn.get("images") or ())),
        Markup('<span class="spoken">{}</span>').format(content) if content else "",
        "" if content or reasoning or calls or turn.get("cut") else turn.get("waiting") or WAITING,
        call_cards(calls or []),
        *(Markup('<span class="who cut-note">{}</span>').format(one) for one in _notes(turn)),
    ]
    return Markup().join(parts)


def _notes(turn: Turn) -> list[str]:
    """What is to be said about a turn."""
    cut = turn.get("cut")
    found = [CUT[cut]] if cut else []
    if cut and repeats(turn["content"] or turn.get("reasoning", "")):
        found.append(REPEATS)
    if turn.get("lost_images"):
        found.append(LOST)
    return found


def _below(side: str, at: int, turn: Turn, is_last: bool) -> Markup:
    """The buttons of a turn, and how many tokens an answer has."""
    if turn["role"] != "assistant":
        acts = [("edit", "Edit")]
    elif not any(turn.get(name) for name in ("content", "calls", "reasoning")):
        acts = [("retry", "Try again")] if is_last else []
    else:
        acts = [("copy", "Copy"), *([("retry", "Try again")] if is_last else [])]
        if side == "tuned":
            acts.append(("correct", "Correct"))
    template = Markup('<button type="button" data-act="{}" data-at="{}">{}</button>')
    buttons = markup.each(template, ((act, at, words) for act, words in acts))
    said = Markup("<span>{}</span>").format(speed(turn)) if turn.get("tokens") else ""
    done = Markup('<span class="kept">Corrected</span>') if turn.get("corrected") else ""
    kind = Markup('<div class="below {}">{}{}{}</div>')
    return kind.format(turn["role"], buttons, said, done) if buttons or said else Markup()


def speed(turn: Turn) -> str:
    """As in “42 tokens · 11 tokens/s”; the first token, for which the prompt is read, apart."""
    count, seconds = turn["tokens"], turn.get("seconds") or 0.0
    words = f"{count:,} token{'s' if count != 1 else ''}"
    if count < 2 or seconds <= 0:
        return words
    rate = (count - 1) / seconds
    return f"{words} · {rate:.0f} tokens/s" if rate >= 10 else f"{words} · {rate:.1f} tokens/s"


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
