"""One example as the exact tokens of training: learned, context only, cut off.

Text becomes tokens in trainer_backend/tokens/encode.py, inside the model process.
"""

from collections.abc import Iterable
from itertools import groupby

from markupsafe import Markup

from sft_ui import markup

MAX_TOKENS = 2000
KINDS = {
    "learned": "the model learns this",
    "context": "context only",
    "cut": "cut off: longer than the limit",
}


def token_card(view: dict, row: int, model: str, packed: Markup | str = "") -> Markup:
    """The card of one row: counts, legend, tokens, and where it lies when packed."""
    tokens = view["tokens"]
    shown = tokens[:MAX_TOKENS]
    counts = [
        f"{view['num_tokens']:,} tokens",
        f"{view['num_learned']:,} learned",
        f"longest allowed: {view['max_length']:,}",
    ]
    if view.get("cut"):
        counts.append(f"{view['cut']:,} cut off")
    notes = [markup.line(note, "quiet") for note in view.get("notes") or ()]
    if len(tokens) > len(shown):
        notes.append(markup.line(f"Only the first {MAX_TOKENS:,} tokens are drawn.", "quiet"))
    runs = Markup().join(_run(kind, group) for kind, group in groupby(shown, key=kind_of))
    return markup.card(
        f"Row {row:,} as {model} reads it",
        markup.chips(counts),
        _legend({kind_of(token) for token in shown}),
        Markup(
            '<div class="tokens" tabindex="0" role="region" aria-label="Row {}">{}</div>'
        ).format(row, runs),
        *notes,
        packed,
    )


def kind_of(token: dict) -> str:
    """Whether a token is learned, only context, or cut off."""
    if token.get("cut"):
        return "cut"
    return "learned" if token.get("learned") else "context"


def _run(kind: str, tokens: Iterable[dict]) -> Markup:
    pieces = ((token["id"], _marked(token["text"])) for token in tokens)
    template = Markup('<span class="{}"><b class="visually-hidden">[{}] </b>{}</span>')
    inside = markup.each(Markup('<i title="{}">{}</i>'), pieces)
    return template.format(kind, KINDS[kind], inside)


def visible(text: str) -> Markup:
    """Token text with its blanks made visible, as HTML."""
    return Markup.escape(_marked(text))


def _marked(text: str) -> str:
    return text.replace(" ", "·").replace("\t", "→").replace("\r", "␍").replace("\n", "↵\n")


def _legend(kinds: set[str]) -> Markup:
    shown = ((kind, words) for kind, words in KINDS.items() if kind in kinds)
    items = markup.each(Markup('<span><i class="{}"></i>{}</span>'), shown)
    template = Markup('<div class="legend">{}<span>· is a blank, ↵ a new line</span></div>')
    return template.format(items)


def hint() -> Markup:
    """What stands there before a row was chosen."""
    return markup.empty(
        "See what the model will learn",
        "Choose a row of the table: it appears here as the exact tokens of training.",
    )
