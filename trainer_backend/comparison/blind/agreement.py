"""How far two voters agree: the share of equal votes, and Cohen's kappa.

Kappa is the agreement beyond what chance would give (J. Cohen, “A Coefficient of Agreement for
Nominal Scales”, Educational and Psychological Measurement 20, 1960): 1 is full agreement, 0 no more
than chance.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Agreement:
    """Over the `n` questions on which both voted. `kappa` is None where chance explains all.

    That is the case without common questions, and where both gave one and the same vote throughout.
    """

    n: int
    share: float | None
    kappa: float | None


def agreement(one: Mapping[int, str], other: Mapping[int, str]) -> Agreement:
    """The agreement of two voters, each {question: what was preferred}."""
    both = [(one[at], other[at]) for at in one if at in other]
    n = len(both)
    if not n:
        return Agreement(0, None, None)
    share = sum(mine == theirs for mine, theirs in both) / n
    mine, theirs = (Counter(votes) for votes in zip(*both, strict=True))
    chance = sum(mine[word] * theirs[word] for word in mine) / n**2
    return Agreement(n, share, None if chance == 1 else (share - chance) / (1 - chance))
