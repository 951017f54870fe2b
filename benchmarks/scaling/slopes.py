"""Exponents of cost over size, by straight lines through logarithms, and the tables of them.

A cost of c · n^k is a line of slope k over log n. Where the slopes between neighbouring sizes
differ, the line bends.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.scaling.meter import Measured

BENDS = 0.35  # change of the slope between neighbouring pieces that is called a bend
LEAST = {"cpu_s": 0.02, "peak_mb": 8.0, "own_mb": 8.0}  # smaller costs are noise


@dataclass(frozen=True)
class Slope:
    """The exponent over the whole range, and between neighbouring sizes."""

    whole: float
    pieces: tuple[float, ...]

    @property
    def bends(self) -> bool:
        """Whether the line is steeper or flatter in one piece than in the one before."""
        return any(abs(b - a) > BENDS for a, b in pairwise(self.pieces))

    def __str__(self) -> str:
        if len(self.pieces) < 2:
            return f"{self.whole:.2f}"
        return f"{self.whole:.2f} ({min(self.pieces):.2f} to {max(self.pieces):.2f})"


def slope_of(sizes: Sequence[float], costs: Sequence[float]) -> Slope | None:
    """The least-squares exponent; None with fewer than two sizes or a cost of zero."""
    if len(sizes) < 2 or any(one <= 0 for one in costs):
        return None
    x, y = [math.log(one) for one in sizes], [math.log(one) for one in costs]
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((one - middle_x) ** 2 for one in x)
    whole = sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)) / spread
    pieces = [(d - c) / (b - a) for (a, b), (c, d) in zip(pairwise(x), pairwise(y), strict=True)]
    return Slope(whole, tuple(pieces))


def fitted(found: Sequence[Measured], cost: str) -> Slope | None:
    """The slope of one step's cost ("cpu_s", "peak_mb" or "own_mb"), noise left out."""
    kept = [one for one in found if getattr(one, cost) >= LEAST[cost]]
    return slope_of([one.size for one in kept], [getattr(one, cost) for one in kept])


def table(found: Sequence[Measured], unit: str) -> list[str]:
    """The lines of a Markdown table: a step a row, a size a column, and the exponents."""
    sizes = sorted({one.size for one in found})
    head = [unit, *(f"{size:,}" for size in sizes), "time grows as", "memory grows as"]
    lines = [_line(head), _line(["---"] * len(head))]
    for name in dict.fromkeys(one.name for one in found):
        own = {one.size: one for one in found if one.name == name}
        cells = [_cell(own[size]) if size in own else "–" for size in sizes]
        ordered = [own[size] for size in sorted(own)]
        exponents = [_exponent(fitted(ordered, cost)) for cost in ("cpu_s", "own_mb")]
        lines.append(_line([name, *cells, *exponents]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(one: Measured) -> str:
    return f"{_seconds(one.cpu_s)}, {_megabytes(one.own_mb)}"


def _seconds(value: float) -> str:
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.1f} s"


def _megabytes(value: float) -> str:
    return f"{value:,.0f} MB"


def _exponent(slope: Slope | None) -> str:
    if slope is None:
        return "too small"
    return f"n^{slope}{', bends' if slope.bends else ''}"
