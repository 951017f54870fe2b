"""Rows of an own held-out file that are trained on too: counted and named.

Rows that are repeated within the training data are checks.py; who holds what out is held_out.py.
"""

import numpy as np

from trainer_backend.errors import Problem, UserError


def held_out_facts(about: dict, rows: np.ndarray, digests: np.ndarray) -> tuple[dict, np.ndarray]:
    """What is held out, counted (for meta.json), and the training rows that are held out too.

    `rows` and `digests` are those of all examples, ascending by row.
    """
    first = int(np.searchsorted(rows, about["row"]))
    if first == len(rows):
        raise UserError("No row of the held-out file can be used.", about["name"], "Correct it.")
    if first == 0:
        raise UserError("No row is left to train on.", about["name"], "Keep some training rows.")
    both = np.isin(digests[:first], digests[first:])
    again = int(np.isin(digests[first:], digests[:first]).sum())
    facts = about | {"first": first, "count": len(rows) - first, "overlap": again}
    return facts, rows[:first][both]


def overlap_problem(facts: dict, rows: np.ndarray, name: str) -> Problem:
    """The warning that rows are both trained on and measured with."""
    first = tuple(int(row) for row in rows[:100])
    return Problem(
        "warning",
        f"{facts['overlap']:,} of {facts['count']:,} held-out rows are also trained on.",
        f"{name}: training rows {', '.join(f'{row:,}' for row in first[:5])}"
        + (f" and {len(rows) - 5:,} more" if len(rows) > 5 else ""),
        "The held-out loss then says little. Leave these rows out of training.",
        first,
        len(rows),
        code="held_out_overlap",
        switches=("drop",),
    )
