"""Findings of a check: their kinds, the rows of each kind, and the problems shown for them.

Findings are collected and worded here; no text is searched.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from trainer_backend.errors import Problem

FIRST_ROWS = 100  # row numbers kept in a problem; problems.parquet has all of them
MAX_KINDS = 80
SEVERITY_ORDER = {"error": 0, "warning": 1, "info": 2}
LEFT_OUT = "These rows are left out of training. "  # begins the advice on rows that cannot be used


@dataclass(frozen=True)
class Kind:
    """One kind of finding; `switches` are the safe fixes on offer, the default first.

    `choices` are the settings (name, value) that decide about it, the most helpful first.
    """

    code: str
    severity: str
    what: str
    fix: str
    switches: tuple[str, ...] = ()
    choices: tuple[tuple[str, str], ...] = ()


_OTHERS = Kind(
    "others", "warning", "There are more kinds of problems.", "Fix the listed ones first."
)


@dataclass
class Findings:
    """The row numbers of each kind, ascending."""

    rows: dict[Kind, array] = field(default_factory=dict)

    def add(self, kind: Kind, row: int) -> None:
        """Note one row; the same row twice in succession counts once."""
        rows = self._rows_of(kind)
        if not rows or rows[-1] != row:
            rows.append(row)

    def extend(self, kind: Kind, rows: np.ndarray) -> None:
        """Note ascending row numbers that are all new."""
        if len(rows):
            self._rows_of(kind).frombytes(np.asarray(rows, np.int64).tobytes())

    def _rows_of(self, kind: Kind) -> array:
        found = self.rows.get(kind)
        if found is None:
            kind = kind if len(self.rows) < MAX_KINDS else _OTHERS
            found = self.rows.setdefault(kind, array("q"))
        return found

    def problems(
        self, file_name: str, num_examples: int, more: Iterable[tuple[Problem, np.ndarray]] = ()
    ) -> list[tuple[Problem, np.ndarray]]:
        """Each kind as (problem, all its rows): errors first, then by number of rows."""
        found = [problem_of(kind, self.rows[kind], file_name, num_examples) for kind in self.rows]
        found += more
        return sorted(found, key=lambda pair: (SEVERITY_ORDER[pair[0].severity], -pair[0].count))


def problem_of(
    kind: Kind, rows: Sequence[int] | np.ndarray, file_name: str, num_examples: int
) -> tuple[Problem, np.ndarray]:
    """(problem, int64 numbers of all its rows); the advice adds how many rows a fix would keep."""
    first = tuple(int(row) for row in rows[:FIRST_ROWS])
    where = f"{file_name}, {rows_text(first, len(rows))}" if first else file_name
    fix = kind.fix + _kept(kind, len(rows), num_examples)
    problem = Problem(
        kind.severity, kind.what, where, fix, first, len(rows), kind.code, kind.switches
    )
    if kind.choices:
        problem = replace(problem, choices=tuple({name: value} for name, value in kind.choices))
    return problem, np.asarray(rows, dtype=np.int64)


def _kept(kind: Kind, count: int, num_examples: int) -> str:
    counts = not kind.fix.startswith(LEFT_OUT)  # else the rows are no examples as it is
    if not count or not counts or not {"drop", "keep_one"} & set(kind.switches):
        return ""
    if count >= num_examples:
        return " Leaving them out would leave no rows."
    them = "it" if count == 1 else f"the {count:,}"
    left = num_examples - count
    rows = "row" if num_examples == 1 else "rows"
    return f" Leaving {them} out keeps {left:,} of {num_examples:,} {rows}."


def rows_text(rows: Iterable[int], count: int) -> str:
    """`count` rows as "row 3", "rows 3, 5 and 9" or "rows 3, 5, 9, 12, 13 and 40 more"."""
    shown = [f"{row:,}" for row in list(rows)[:5]]
    if count > len(shown):
        return f"rows {', '.join(shown)} and {count - len(shown):,} more"
    if len(shown) == 1:
        return f"row {shown[0]}"
    return f"rows {', '.join(shown[:-1])} and {shown[-1]}"
