"""The packed sequence of a row, and what stands where its tokens are shown until one is chosen."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from sft_ui import markup
from trainer_backend.data.store import LengthReport
from trainer_backend.tokens.packing import best_fit_bins

ROWS_PACKED_TOGETHER = 1_000  # as in training


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
