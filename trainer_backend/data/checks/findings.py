"""Kinds of findings, the rows each was found in, and the sentences that are said about them.

How something is found is checks.py, text_checks.py and whole_checks.py.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from trainer_backend.errors import Problem

FIRST_ROWS = 100  # row numbers kept in a problem; all of them are in problems.parquet
MAX_KINDS = 80
_ORDER = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class Kind:
    """One kind of finding; `switches` are the safe fixes on offer, the default first."""

    code: str
    severity: str
    what: str
    fix: str
    switches: tuple[str, ...] = ()


_OTHERS = Kind("others", "warning", "Other problems.", "Correct those above, then look again.")


@dataclass
class Findings:
    """The rows of each kind, in the order they are reported (ascending)."""

    rows: dict[Kind, array] = field(default_factory=dict)

    def add(self, kind: Kind, row: int) -> None:
        """Note one row; a row noted twice in a row counts once."""
        rows = self._rows_of(kind)
        if not rows or rows[-1] != row:
            rows.append(row)

    def extend(self, kind: Kind, rows: np.ndarray) -> None:
        """Note ascending rows that are all new."""
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
        """Each kind as a problem with all its rows: errors first, then by how many rows."""
        found = [
            problem_of(kind, rows, file_name, num_examples) for kind, rows in self.rows.items()
        ]
        found += more
        return sorted(found, key=lambda pair: (_ORDER[pair[0].severity], -pair[0].count))


def problem_of(
    kind: Kind, rows: Sequence[int] | np.ndarray, file_name: str, num_examples: int
) -> tuple[Problem, np.ndarray]:
    """A problem as it is shown, and all its rows; the advice says what a switch would keep."""
    first = tuple(int(row) for row in rows[:FIRST_ROWS])
    where = f"{file_name}, {rows_text(first, len(rows))}" if first else file_name
    fix = kind.fix + _left(kind, len(rows), num_examples)
    problem = Problem(
        kind.severity, kind.what, where, fix, first, len(rows), kind.code, kind.switches
    )
    return problem, np.asarray(rows, dtype=np.int64)


def _left(kind: Kind, count: int, num_examples: int) -> str:
    if not count or not {"drop", "keep_one"} & set(kind.switches):
        return ""
    if count >= num_examples:
        return " Leaving them out would leave no row."
    them = "it" if count == 1 else f"the {count:,}"
    left = num_examples - count
    rows = "row" if num_examples == 1 else "rows"
    return f" Leaving {them} out keeps {left:,} of {num_examples:,} {rows}."


def rows_text(rows: Iterable[int], count: int) -> str:
    """ "row 3", "rows 3, 5 and 9", "rows 3, 5, 9, 12, 13 and 40 more"."""
    shown = [f"{row:,}" for row in list(rows)[:5]]
    if count > len(shown):
        return f"rows {', '.join(shown)} and {count - len(shown):,} more"
    if len(shown) == 1:
        return f"row {shown[0]}"
    return f"rows {', '.join(shown[:-1])} and {shown[-1]}"
