"""One row as the exact tokens of training: learned, context, cut off.

Renders tokens; the model process makes them.
"""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from markupsafe import Markup

from sft_ui import markup

MAX_TOKENS = 2000
KINDS = {"learned": "learned", "context": "context only", "cut": "cut off by the limit"}


def token_card(view: Mapping[str, Any], row: int, model: str, packed: Markup | str = "") -> Markup:
    """The card of one row: counts, legend, tokens, and its place in a packed sequence.

    `view` holds "tokens" ({"id", "text", "learned", "cut"}), their counts and "notes".
    """
    tokens = view["tokens"]
    shown = tokens[:MAX_TOKENS]
    counts = [
        f"{view['num_tokens']:,} tokens",
        f"{view['num_learned']:,} learned",
        f"limit: {view['max_length']:,}",
    ]
    if view.get("cut"):
        counts.append(f"{view['cut']:,} cut off")
    notes = [markup.line(note, "quiet") for note in view.get("notes") or ()]
    if len(tokens) > len(shown):
        notes.append(markup.line(f"Only the first {MAX_TOKENS:,} tokens are shown.", "quiet"))
    runs = Markup().join(_run(kind, group) for kind, group in groupby(shown, key=kind_of))
    return markup.card(
        f"Row {row:,} as {model} sees it",
        markup.chips(counts),
        _legend({kind_of(token) for token in shown}),
        Markup(
            '<div class="tokens" tabindex="0" role="region" aria-label="Row {}">{}</div>'
        ).format(row, runs),
        *notes,
        packed,
    )


def kind_of(token: Mapping[str, Any]) -> str:
    """The kind of a token: a key of KINDS."""
    if token.get("cut"):
        return "cut"
    return "learned" if token.get("learned") else "context"


def _run(kind: str, tokens: Iterable[Mapping[str, Any]]) -> Markup:
    pieces = ((token["id"], _marked(token["text"])) for token in tokens)
    template = Markup('<span class="{}"><b class="visually-hidden">[{}] </b>{}</span>')
    inside = markup.each(Markup('<i title="{}">{}</i>'), pieces)
    return template.format(kind, KINDS[kind], inside)


def _marked(text: str) -> str:
    """The text with visible whitespace."""
    return text.replace(" ", "·").replace("\t", "→").replace("\r", "␍").replace("\n", "↵\n")


def _legend(kinds: set[str]) -> Markup:
    shown = ((kind, words) for kind, words in KINDS.items() if kind in kinds)
    items = markup.each(Markup('<span><i class="{}"></i>{}</span>'), shown)
    template = Markup('<div class="legend">{}<span>· is a space, ↵ a line break</span></div>')
    return template.format(items)
