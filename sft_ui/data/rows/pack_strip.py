"""One packed sequence as a strip: which rows lie in it, and where one ends and the next begins.

Packing itself is trainer_backend/tokens/packing.py; here it is tried on the rows around one row.
"""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from sft_ui import markup
from trainer_backend.data.store.length_report import LengthReport
from trainer_backend.tokens.packing import best_fit_bins

AROUND = 1_000  # as many rows are packed at a time in training


@dataclass(frozen=True)
class Packed:
    """Rows that share a sequence, in order: (row number, tokens)."""

    rows: list[tuple[int, int]]
    length: int


def packed_with(lengths: LengthReport, row: int, max_length: int) -> Packed | None:
    """The sequence a row would lie in; None for a row that is not trained on."""
    at = int(np.searchsorted(lengths.rows, row))
    if at == len(lengths.rows) or lengths.rows[at] != row or not lengths.total[at]:
        return None
    start = at // AROUND * AROUND
    here = slice(start, start + AROUND)
    numbers, totals = lengths.rows[here], np.minimum(lengths.total[here], max_length)
    trained = np.flatnonzero((totals > 0) & (lengths.first[here] < max_length))
    if at - start not in trained:
        return None
    bins = best_fit_bins(totals[trained].tolist(), max_length)
    found = next(one for one in bins if at - start in trained[one])
    return Packed([(int(numbers[trained[i]]), int(totals[trained[i]])) for i in found], max_length)


def pack_strip(packed: Packed, row: int) -> Markup:
    """The strip: a piece for each row, as wide as its tokens, and what is left free."""
    used = sum(tokens for _, tokens in packed.rows)
    pieces = (_piece(number, tokens, packed.length, row) for number, tokens in packed.rows)
    others = len(packed.rows) - 1
    with_whom = f"{others} other {'row' if others == 1 else 'rows'}" if others else "no other row"
    said = f"Packed, it shares a sequence of {packed.length:,} tokens with {with_whom}"
    said += f"; {packed.length - used:,} stay empty. No row sees another."
    strip = Markup('<div class="pack" role="img" aria-label="{}">{}</div>')
    return strip.format(said, Markup().join(pieces)) + markup.line(
        f"{said} Training shuffles first, so the neighbours will be others.", "quiet"
    )


def _piece(number: int, tokens: int, length: int, row: int) -> Markup:
    kind = Markup(' class="here"') if number == row else ""
    template = Markup('<i{0} style="width:{1:.2f}%" title="Row {2:,}: {3:,} tokens">{2:,}</i>')
    return template.format(kind, 100 * tokens / length, number, tokens)
