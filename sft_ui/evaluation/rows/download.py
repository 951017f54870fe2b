"""The rows of an evaluation as CSV: the numbers are the kept ones, unrounded."""

import csv
import io

from sft_ui.evaluation.rows.table import SIDES, marks_of, measures_of
from trainer_backend.data.store import safe_cell
from trainer_backend.evaluation.results import Asked, Evaluation

TEXTS = ("prompt", "expected", "base", "tuned")


def table_csv(evaluation: Evaluation) -> str:
    """All rows in the order of their file: texts, each score of base and tuned, and the marks.

    Cells that a spreadsheet would run as a formula get a ' before them.
    """
    names = measures_of(evaluation)
    out = io.StringIO()
    writer = csv.writer(out)
    scores = [f"{name}_{side}" for name in names for side in SIDES]
    writer.writerow(["row", *TEXTS, *scores, *(f"{side}_mark" for side in SIDES)])
    for one in sorted(evaluation.examples, key=lambda one: one.row):
        texts = [safe_cell(getattr(one, name)) for name in TEXTS]
        marks = ["; ".join(marks_of(one, side)) for side in SIDES]
        writer.writerow([one.row, *texts, *_scores(one, names), *marks])
    return out.getvalue()


def _scores(one: Asked, names: list[str]) -> list[object]:
    return [one.scores.get(name, {}).get(side, "") for name in names for side in SIDES]
