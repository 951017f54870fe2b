"""What stands above the rows of an evaluation: warnings, the sentence, the numbers, its facts.

Reads results and turns them into plain data for the browser.
"""

import time
from typing import Any

from sft_ui.evaluation.rows.table import MOST_ROWS, PAGE, measures_of
from sft_ui.evaluation.words import MARKS, help_of, interval, number, wrong_words
from trainer_backend.downloads import time_in_words
from trainer_backend.evaluation.results import LOSSES, Evaluation
from trainer_backend.evaluation.shown import harness_lines, measure_label, rows_in_words

TONES = {"better": "good", "worse": "error"}
COUNTED = ("exact_match", "contains", "json_valid", "tool_call_match")  # of a row 0 or 1


def head_of(evaluation: Evaluation) -> dict[str, Any]:
    """The result in words and numbers; texts are shown as they are."""
    names = [name for name in evaluation.metrics if name != evaluation.main]
    return {
        "id": evaluation.id,
        "label": label_of(evaluation),
        "verdict": MARKS.get(evaluation.verdict, ""),
        "tone": TONES.get(evaluation.verdict, "even"),
        "sentence": evaluation.sentence,
        "warnings": list(evaluation.warnings),
        "notes": list(evaluation.notes),
        "main": measured(evaluation, evaluation.main),
        "others": [measured(evaluation, name) for name in names if name not in LOSSES],
        "losses": [measured(evaluation, name) for name in names if name in LOSSES],
        "facts": facts_of(evaluation),
        "rows": len(evaluation.examples),
        "measures": [_choice(name) for name in measures_of(evaluation)],
        "page": PAGE,
        "most": MOST_ROWS,
        "harness": harness_of(evaluation),
    }


def _choice(name: str) -> dict[str, str]:
    return {
        "name": name,
        "title": measure_label(name),
        "help": help_of(name),
        "wrong": wrong_words(name),
    }


def measured(evaluation: Evaluation, name: str) -> dict[str, Any] | None:
    """One measure as the page writes it; None if it was not measured."""
    metric = evaluation.metrics.get(name)
    if metric is None:
        return None
    found = {
        "name": name,
        "title": measure_label(name),
        "help": help_of(name),
        "interval": interval(name, metric),
        "rows": metric.rows,
    }
    for side, value in (("base", metric.base), ("tuned", metric.tuned)):
        found[side] = number(name, value)
        found[f"{side}_share"] = None if name in LOSSES else value
        is_count = name in COUNTED and evaluation.rows
        found[f"{side}_count"] = (
            f"{round(value * metric.rows)} of {metric.rows}" if is_count else ""
        )
    return found


def label_of(evaluation: Evaluation) -> str:
    """An evaluation among others: its rows, its checkpoint, when it was made, what came out."""
    rows = "1 row" if evaluation.rows == 1 else f"{evaluation.rows:,} rows"
    data = f"Held-out rows ({rows})" if evaluation.held_out else f"{evaluation.dataset} ({rows})"
    parts = [data, f"step {evaluation.checkpoint:,}", when(evaluation.created_at)]
    return " · ".join(filter(None, [*parts, evaluation.verdict]))


def facts_of(evaluation: Evaluation) -> list[str]:
    """Rows, data, checkpoint, duration and time of an evaluation."""
    took = f"took {time_in_words(evaluation.seconds)}" if evaluation.seconds else ""
    return list(filter(None, [rows_in_words(evaluation), took, when(evaluation.created_at)]))


def when(moment: float) -> str:
    """A moment as the page writes it."""
    return time.strftime("%d %b %H:%M", time.localtime(moment))


def harness_of(evaluation: Evaluation) -> list[str]:
    """The numbers of lm-eval in lines."""
    return [
        f"lm-eval, {task}: {name} {base} → {tuned} (standard error {error})"
        for task, name, base, tuned, error in harness_lines(evaluation)
    ]
