"""How an evaluation is shown: its lines, its worst rows, its files. Free of torch.

The one source of these numbers for the command line, the page, the web API, the model card and the
CSV: a number is rounded and worded here. Nothing is measured.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer_backend.data.store import safe_cell
from trainer_backend.evaluation.measures import MEASURE_LABELS
from trainer_backend.evaluation.results import (
    LOSSES,
    Asked,
    Evaluation,
    Metric,
    best_head,
    evaluations_of,
    heads_of,
)
from trainer_backend.runs.run import Run

LABELS = {**MEASURE_LABELS, "loss": "Loss", "perplexity": "Perplexity"}
GRADED = ("token_f1", "chrf", "rouge_l")  # of one answer they are seldom 0 or 1
HEADERS = ("Measure", "Base", "Tuned", "95 % interval of the difference")


@dataclass(frozen=True)
class Line:
    """One measure in words: “Exact match”, “31.2%”, “84%”, “+41 to +63.5 points”.

    `winner` is “tuned” or “base” where the interval leaves no doubt, else “”.
    """

    name: str
    label: str
    base: str
    tuned: str
    interval: str
    winner: str
    rows: int


def lines(evaluation: Evaluation) -> list[Line]:
    """The measures of an evaluation in words: the one that the verdict follows first."""
    order = sorted(evaluation.metrics, key=lambda name: (name != evaluation.main, name in LOSSES))
    return [_line(name, evaluation.metrics[name]) for name in order]


def _line(name: str, metric: Metric) -> Line:
    return Line(
        name,
        measure_label(name),
        value_in_words(name, metric.base),
        value_in_words(name, metric.tuned),
        interval_in_words(name, metric.interval),
        winner(metric),
        metric.rows,
    )


def measure_label(name: str) -> str:
    """The label of a measure; one that is not known here keeps its name."""
    return LABELS.get(name, name)


def value_in_words(name: str, value: float) -> str:
    """A value of a measure: losses with four digits, graded scores with two places, shares in %."""
    if name in LOSSES:
        return f"{value:.4g}"
    return f"{value:.2f}" if name in GRADED else f"{round(100 * value, 1):g}%"


def interval_in_words(name: str, interval: Sequence[float]) -> str:
    """An interval of a difference in the unit of its measure: “+41 to +63.5 points”."""
    if name in LOSSES:
        low, high = (f"{one:+.3g}" for one in interval)
        return f"{low} to {high}"
    if name in GRADED:
        low, high = (f"{one:+.2f}" for one in interval)
        return f"{low} to {high}"
    low, high = (f"{round(100 * one, 1):+g}" for one in interval)
    return f"{low} to {high} points"


def winner(metric: Metric) -> str:
    """“tuned” or “base” if the interval of the difference leaves no doubt, else “”."""
    low, high = metric.interval
    if low <= 0 <= high:
        return ""
    return "tuned" if (low > 0) == (metric.better == "higher") else "base"


def rows_in_words(evaluation: Evaluation) -> str:
    """On what it was done: “40 held-out rows of sums.jsonl, checkpoint 200”."""
    held = "held-out " if evaluation.held_out else ""
    rows = f"{evaluation.rows:,} {held}row{'s' * (evaluation.rows != 1)}"
    source = f" of {evaluation.dataset}" if evaluation.dataset else ""
    return f"{rows}{source}, checkpoint {evaluation.checkpoint}"


def worst_first(evaluation: Evaluation) -> list[Asked]:
    """The rows by the score of the tuned model in the main measure, the worst first.

    Among equals those come first that the base model answered better.
    """

    def weight(one: Asked) -> tuple[float, float, int]:
        score, sign = one.scores.get(evaluation.main) or {}, -1 if evaluation.main in LOSSES else 1
        base, tuned = score.get("base", 1.0), score.get("tuned", 1.0)
        return sign * tuned, sign * (tuned - base), one.row

    return sorted(evaluation.examples, key=weight)


def harness_lines(evaluation: Evaluation) -> list[tuple[str, str, str, str, str]]:
    """The results of lm-eval: (task, its measure, base, tuned, standard error), as it counts."""
    return [
        (task, name, *(_as_counted(one.get(key)) for key in ("base", "tuned", "stderr")))
        for task, found in sorted(evaluation.harness.items())
        for name, one in sorted(found.items())
    ]


def _as_counted(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "–"


def answers_csv(evaluation: Evaluation) -> str:
    """One row a question: its number, prompt, expected and given answers, and every score.

    Cells that a spreadsheet would run as a formula get a ' before them.
    """
    rows, sides = evaluation.examples, ("base", "tuned")
    names = [name for name in evaluation.metrics if any(name in one.scores for one in rows)]
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    heads = [f"{name}_{side}" for name in names for side in sides]
    out.writerow(["row", "prompt", "expected", "base", "tuned", *heads])
    for one in rows:
        scores = [one.scores.get(name, {}).get(side, "") for name in names for side in sides]
        texts = (one.prompt, one.expected, one.base, one.tuned)
        out.writerow([one.row, *map(safe_cell, texts), *scores])
    return text.getvalue()


def with_evaluations(run: Run, *, examples: bool) -> dict[str, Any]:
    """A run's summary with its `evaluations`, newest first; without `examples` only their heads."""
    found = evaluations_of(run) if examples else heads_of(run)
    kept = [one.to_dict(examples=examples) for one in found]
    return {**run.summary(), "evaluations": kept}


def said_first(run: Run) -> list[str]:
    """What a reader of a run must hear of its evaluation: the warnings, then the sentence.

    A run of an earlier version has no evaluation but the share of right answers, or neither.
    """
    if one := best_head(run):
        return [*one.warnings, one.sentence]
    answers = run.state().get("answers")
    if not answers:
        return []
    return [
        f"Right answers on {answers['rows']} held-out rows: "
        f"base {answers['base']:.0%}, tuned {answers['tuned']:.0%}."
    ]
