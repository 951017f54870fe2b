"""A figure that is not certain: the likely value, and where it hardly lies outside of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """A figure that is likely `likely` and hardly outside of `low` to `high`."""

    low: float
    likely: float
    high: float
