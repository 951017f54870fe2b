"""Rows of an own held-out file that are trained on too: counted and named.

Rows that are repeated within the training data are checks.py; who holds what out is held_out.py.
"""

import numpy as np

from trainer_backend.errors import Problem, UserError


def held_out_facts(
    about: dict, rows: np.ndarray, digests: np.ndarray, near: np.ndarray
) -> tuple[dict, np.ndarray]:
    """What is held out, counted (for meta.json), and the training rows that are held out too.

    `rows` and `digests` are those of all examples, ascending by row; `near` (2, n) are indices of
    examples and of the earlier one that each nearly repeats.
    """
    first = int(np.searchsorted(rows, about["row"]))
    if first == len(rows):
        raise UserError("No row of the held-out file can be used.", about["name"], "Correct it.")
    if first == 0:
        raise UserError("No row is left to train on.", about["name"], "Keep some training rows.")
    both = np.isin(digests[:first], digests[first:])
    again = np.isin(digests[first:], digests[:first])
    later, earlier = near[:, (near[0] >= first) & (near[1] < first)]
    nearly = int((~again[later - first]).sum())
    both[earlier] = True
    facts = {"first": first, "count": len(rows) - first, "overlap": int(again.sum())}
    return about | facts | {"near": nearly}, rows[:first][both]


def overlap_problem(facts: dict, rows: np.ndarray, name: str) -> Problem:
    """The warning that rows are both trained on and measured with."""
    first = tuple(int(row) for row in rows[:100])
    count, nearly = facts["overlap"] + facts["near"], facts["near"]
    but = f", {nearly:,} of them nearly word for word" if nearly else ""
    return Problem(
        "warning",
        f"{count:,} of {facts['count']:,} held-out rows are also trained on{but}.",
        f"{name}: training rows {', '.join(f'{row:,}' for row in first[:5])}"
        + (f" and {len(rows) - 5:,} more" if len(rows) > 5 else ""),
        "The held-out loss then says little. Leave these rows out of training.",
        first,
        len(rows),
        code="held_out_overlap",
        switches=("drop",),
    )
