"""The numbers of a comparison as one CSV: a column a run; facts, scores, settings, all points."""

import csv
import io
from collections.abc import Iterator
from typing import Any

from trainer_backend.comparison.compare import Comparison
from trainer_backend.comparison.curves import CURVES
from trainer_backend.data.store import safe_cell

FACTS = ("name", "state", "dataset", "base_model", "step", "total_steps", "elapsed_seconds", "loss")


def as_csv(comparison: Comparison) -> str:
    """The comparison as CSV with the columns kind, name, step and a column for each run's id.

    Curves have all their points; a run without a value at a step has an empty cell.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ids = [one.run.id for one in comparison.compared]
    writer.writerow(["kind", "name", "step", *ids])
    for kind, name, step, values in _rows(comparison):
        writer.writerow([kind, name, step, *map(_cell, values)])
    return out.getvalue()


def _rows(comparison: Comparison) -> Iterator[tuple[str, str, int | str, list[Any]]]:
    facts = comparison.to_dict()["runs"]
    for name in FACTS:
        yield "run", name, "", [one[name] for one in facts]
    scores = comparison.scores
    for name, values in scores.values.items():
        yield "score", name, "", list(values)
    for name, values in scores.base.items():
        yield "base score", name, "", list(values)
    for name, means in scores.shared.items():
        yield f"score on {scores.shared_rows} shared rows", name, "", list(means)
    for name, values in comparison.settings.items():
        yield "setting", name, "", values
    curves = list(comparison.curves.values())
    for name in CURVES:
        known = [dict(one[name]) for one in curves]
        for step in sorted({step for one in known for step in one}):
            yield "curve", name, step, [one.get(step) for one in known]


def _cell(value: object) -> object:
    """A value as it is; a text that a spreadsheet would calculate gets a mark before it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return safe_cell(value) if isinstance(value, str) else value
