"""The measures of an evaluation as the page calls them, and their numbers as it writes them.

Knows no runs and measures nothing.
"""

from math import isfinite

from trainer_backend.evaluation.results import LOSSES, Evaluation, Metric

# name of a measure: its title, and what it says in plain words
MEASURES = {
    "exact_match": ("Exact match", "The answer is the expected one, word for word."),
    "contains": ("Contains", "The expected answer stands somewhere in the answer."),
    "token_f1": ("Token F1", "How many words the answer shares with the expected one."),
    "chrf": ("chrF", "How many runs of letters the answer shares with the expected one."),
    "rouge_l": ("ROUGE-L", "The longest sequence of words both answers share, in order."),
    "json_valid": ("Valid JSON", "The answer can be read as JSON."),
    "json_fields": ("JSON fields", "The share of fields that have the expected value."),
    "label_f1": ("Label F1", "How well each label is found, every label counting the same."),
    "tool_call_match": ("Tool calls", "The same tools are called with the same arguments."),
    "loss": ("Loss", "How surprised the model is by the expected answers. Lower is better."),
    "perplexity": ("Perplexity", "The loss as a number of equally likely words. Lower is better."),
}
GRADED = ("token_f1", "chrf", "rouge_l")  # of one answer they are seldom 0 or 1
HALF = 0.5  # below it a graded answer counts as wrong
MARKS = {"better": "✓ Better", "worse": "✗ Worse", "no clear difference": "≈ No clear difference"}


def title(name: str) -> str:
    """What the page calls a measure; a name it does not know stays as it is."""
    return MEASURES.get(name, (name, ""))[0]


def help_of(name: str) -> str:
    """What a measure says, in plain words; "" for one the page does not know."""
    return MEASURES.get(name, ("", ""))[1]


def number(name: str, value: float) -> str:
    """A value of a measure: losses with four digits, graded scores with two places, shares in %."""
    if not isfinite(value):
        return "–"
    if name in LOSSES:
        return f"{value:.4g}"
    return f"{value:.2f}" if name in GRADED else f"{round(value * 100, 1):g}%"


def score_words(name: str, value: float) -> str:
    """The score of one answer: a match, none, or how much of one."""
    if value >= 1:
        return "match"
    return "different" if value <= 0 and name not in GRADED else number(name, value)


def interval(name: str, metric: Metric) -> str:
    """The 95 % interval of tuned - base, in the measure's own unit; "" where it is not known."""
    if not all(map(isfinite, metric.interval)):
        return ""
    if name in LOSSES:
        low, high = (f"{value:+.3g}" for value in metric.interval)
        return f"{low} to {high}"
    if name in GRADED:
        low, high = (f"{value:+.2f}" for value in metric.interval)
        return f"{low} to {high}"
    low, high = (f"{round(value * 100, 1):+g}" for value in metric.interval)
    return f"{low} to {high} points"


def is_wrong(name: str, score: float | None) -> bool:
    """Whether an answer with this score counts as wrong; without a score it does not."""
    return score is not None and score < (HALF if name in GRADED else 1.0)


def wrong_words(name: str) -> str:
    """The label of the filter that shows wrong answers only."""
    return f"Below {HALF:g} only" if name in GRADED else "Wrong only"


def score_line(evaluation: Evaluation) -> str:
    """The main measure in one line, as “Exact match 0% → 95%”; "" without it."""
    name, metric = evaluation.main, evaluation.metrics.get(evaluation.main)
    if metric is None:
        return ""
    return f"{title(name)} {number(name, metric.base)} → {number(name, metric.tuned)}"
