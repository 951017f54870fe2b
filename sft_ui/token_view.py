"""One example as the exact tokens of training: learned, context only, cut off.

Text becomes tokens in trainer_backend/data/chat_template.py, inside the model process.
"""

from html import escape
from itertools import groupby

from . import cards

MAX_TOKENS = 2000
KINDS = {
    "learned": "the model learns this",
    "context": "context only",
    "cut": "cut off: longer than the limit",
}


def token_card(view: dict, row: int, model: str, packed: str = "") -> str:
    """The card of one row: counts, legend, tokens, and where it lies when packed (HTML)."""
    tokens = view["tokens"]
    shown = tokens[:MAX_TOKENS]
    counts = [
        f"{view['num_tokens']:,} tokens",
        f"{view['num_learned']:,} learned",
        f"longest allowed: {view['max_length']:,}",
    ]
    if view.get("cut"):
        counts.append(f"{view['cut']:,} cut off")
    notes = [cards.line(note, "quiet") for note in view.get("notes") or ()]
    if len(tokens) > len(shown):
        notes.append(cards.line(f"Only the first {MAX_TOKENS:,} tokens are drawn.", "quiet"))
    runs = "".join(_run(kind, list(group)) for kind, group in groupby(shown, key=kind_of))
    return cards.card(
        f"Row {row:,} as {model} reads it",
        cards.chips(counts),
        _legend({kind_of(token) for token in shown}),
        f'<div class="tokens" tabindex="0" role="region" aria-label="Row {row}">{runs}</div>',
        *notes,
        packed,
    )


def kind_of(token: dict) -> str:
    """Whether a token is learned, only context, or cut off."""
    if token.get("cut"):
        return "cut"
    return "learned" if token.get("learned") else "context"


def _run(kind: str, tokens: list[dict]) -> str:
    pieces = "".join(
        f'<i title="{int(token["id"])}">{visible(token["text"])}</i>' for token in tokens
    )
    label = escape(KINDS[kind])
    return f'<span class="{kind}"><b class="visually-hidden">[{label}] </b>{pieces}</span>'


def visible(text: str) -> str:
    """Token text with its blanks made visible, as HTML."""
    marked = text.replace(" ", "·").replace("\t", "→").replace("\r", "␍")
    return escape(marked).replace("\n", "↵\n")


def _legend(kinds: set[str]) -> str:
    shown = [kind for kind in KINDS if kind in kinds]
    items = "".join(f'<span><i class="{k}"></i>{escape(KINDS[k])}</span>' for k in shown)
    return f'<div class="legend">{items}<span>· is a blank, ↵ a new line</span></div>'


def hint() -> str:
    """What stands there before a row was chosen."""
    return cards.empty(
        "See what the model will learn",
        "Choose a row of the table: it appears here as the exact tokens of training.",
    )
