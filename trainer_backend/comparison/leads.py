"""How far the best of the compared runs is ahead of the others, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer_backend.comparison.answers import SharedRow
from trainer_backend.comparison.compared import Compared
from trainer_backend.comparison.scores import LOSS_NAMES, columns_of, mean
from trainer_backend.evaluation.measures import paired_interval


@dataclass(frozen=True)
class Lead:
    """How far one run is ahead of another on the rows that they share.

    `interval` is the 95 % interval of the difference of the means (paired bootstrap).
    """

    measure: str
    best: int
    other: int
    difference: float
    interval: tuple[float, float]
    rows: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out “no difference”."""
        return self.interval[0] > 0 or self.interval[1] < 0


def leads(runs: Sequence[Compared], shared: Sequence[SharedRow]) -> list[Lead]:
    """The best run against each of the others, by the measure that the verdicts follow."""
    measure = next((one.head.main for one in runs if one.head is not None), "exact_match")
    if len(shared) < 2 or any(row and measure not in row for one in shared for row in one.scores):
        return []
    columns = columns_of(shared, measure)
    means = {at: mean(column) for at, column in enumerate(columns) if column}
    lower = measure in LOSS_NAMES
    best = (min if lower else max)(means, key=lambda at: means[at])
    found = []
    for other in means:
        if other != best:
            low, high = paired_interval(columns[other], columns[best])
            ahead = means[best] - means[other]
            found.append(Lead(measure, best, other, ahead, (low, high), len(shared)))
    return found
