"""The 95 % interval of a win rate: Wilson's score interval (E. B. Wilson, JASA 22, 1927)."""

from math import sqrt

Z = 1.959963984540054


def wilson(wins: int | float, n: int) -> tuple[float, float]:
    """The 95 % interval of wins / n."""
    share, extra = wins / n, Z * Z / n
    middle = (share + extra / 2) / (1 + extra)
    half = Z * sqrt(share * (1 - share) / n + extra / (4 * n)) / (1 + extra)
    return max(0.0, middle - half), min(1.0, middle + half)
