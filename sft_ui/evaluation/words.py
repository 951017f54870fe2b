"""What the page says of a measure beside its number: what it means, and what counts as wrong.

Numbers are worded by the library; nothing is measured.
"""

from math import isfinite

from trainer_backend.evaluation.measures import MEASURE_MEANS
from trainer_backend.evaluation.results import Metric
from trainer_backend.evaluation.shown import GRADED, interval_in_words, value_in_words

HALF = 0.5  # below it a graded answer counts as wrong
MARKS = {"better": "✓ Better", "worse": "✗ Worse", "no clear difference": "≈ No clear difference"}


def help_of(name: str) -> str:
    """What a measure says, in plain words; "" for one that is not known here."""
    return MEASURE_MEANS.get(name, "")


def number(name: str, value: float) -> str:
    """A value of a measure, “–” where there is none."""
    return value_in_words(name, value) if isfinite(value) else "–"


def score_words(name: str, value: float) -> str:
    """The score of one answer: a match, none, or how much of one."""
    if value >= 1:
        return "match"
    return "different" if value <= 0 and name not in GRADED else number(name, value)


def interval(name: str, metric: Metric) -> str:
    """The 95 % interval of tuned - base; "" where it is not known."""
    known = all(map(isfinite, metric.interval))
    return interval_in_words(name, metric.interval) if known else ""


def is_wrong(name: str, score: float | None) -> bool:
    """Whether an answer with this score counts as wrong; without a score it does not."""
    return score is not None and score < (HALF if name in GRADED else 1.0)


def wrong_words(name: str) -> str:
    """The label of the filter that shows wrong answers only."""
    return f"Below {HALF:g} only" if name in GRADED else "Wrong only"
