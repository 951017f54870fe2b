"""One row as the exact tokens of training (learned, context, cut off), and its packed sequence.

Renders tokens; the model process makes them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from markupsafe import Markup

from sft_ui import markup
from trainer_backend.data.store import LengthReport
from trainer_backend.tokens.packing import best_fit_bins

MAX_TOKENS = 2000
ROWS_PACKED_TOGETHER = 1_000  # as in training
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


def fetching_card(progress: Mapping[str, Any]) -> Markup:
    """How far the download of the model's tokenizer is; also for what is done after it."""
    return markup.card(f"{progress['what']}…", markup.line(progress["words"], "quiet"))


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


def hint() -> Markup:
    """The placeholder until a row is chosen."""
    return markup.empty(
        "See what the model will learn",
        "Choose a row in the table to see the exact tokens used in training.",
    )


@dataclass(frozen=True)
class Packed:
    """The rows of one packed sequence, in order: (row number, tokens), and its length in tokens."""

    rows: list[tuple[int, int]]
    length: int


def packed_with(lengths: LengthReport, row: int, max_length: int) -> Packed | None:
    """The packed sequence of a row; None for a row that is not trained on."""
    at = int(np.searchsorted(lengths.rows, row))
    if at == len(lengths.rows) or lengths.rows[at] != row or not lengths.total[at]:
        return None
    start = at // ROWS_PACKED_TOGETHER * ROWS_PACKED_TOGETHER
    here = slice(start, start + ROWS_PACKED_TOGETHER)
    numbers, totals = lengths.rows[here], np.minimum(lengths.total[here], max_length)
    trained = np.flatnonzero((totals > 0) & (lengths.first[here] < max_length))
    if at - start not in trained:
        return None
    bins = best_fit_bins(totals[trained].tolist(), max_length)
    found = next(one for one in bins if at - start in trained[one])
    return Packed([(int(numbers[trained[i]]), int(totals[trained[i]])) for i in found], max_length)


def pack_strip(packed: Packed, row: int) -> Markup:
    """A bar with one piece per row, as wide as its tokens; the rest is padding."""
    used = sum(tokens for _, tokens in packed.rows)
    pieces = (_piece(number, tokens, packed.length, row) for number, tokens in packed.rows)
    others = len(packed.rows) - 1
    with_whom = f"{others} other {'row' if others == 1 else 'rows'}" if others else "no other row"
    words = f"Packed into a sequence of {packed.length:,} tokens with {with_whom}"
    words += f"; {packed.length - used:,} stay empty. Rows do not attend to each other."
    strip = Markup('<div class="pack" role="img" aria-label="{}">{}</div>')
    return strip.format(words, Markup().join(pieces)) + markup.line(
        f"{words} Training shuffles the rows, so the other rows will differ.", "quiet"
    )


def _piece(number: int, tokens: int, length: int, row: int) -> Markup:
    kind = Markup(' class="here"') if number == row else ""
    template = Markup('<i{0} style="width:{1:.2f}%" title="Row {2:,}: {3:,} tokens">{2:,}</i>')
    return template.format(kind, 100 * tokens / length, number, tokens)
