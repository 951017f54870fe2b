"""The answers of compared runs side by side: the rows that all of them were asked.

Two runs share a row if it has the same number in the same data; where a number is missing, as in
runs of earlier versions, if prompt and expected answer are the same text.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from trainer_backend.comparison.compared import Compared
from trainer_backend.evaluation.results import whole


@dataclass(frozen=True)
class Given:
    """What one run answered to a row. `row` is its number, None where that is not known."""

    row: int | None
    prompt: str
    expected: str
    base: str
    tuned: str
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    marks: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SharedRow:
    """One row and the answer of each run, in the order of the runs.

    A run that has no answers at all has None, without scores. `base` is the base model's answer,
    "" where the runs do not share one.
    """

    row: int | None
    prompt: str
    expected: str
    base: str
    answers: list[str | None]
    scores: list[dict[str, float]]
    marks: list[dict[str, Any]]
    messages: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def given_by(one: Compared) -> list[Given]:
    """What a run was asked in the evaluation that stands for it, in the order of its rows."""
    if one.head is not None:
        return [
            Given(
                *(asked.row, asked.prompt, asked.expected, asked.base, asked.tuned),
                scores=asked.scores,
                messages=asked.messages,
                marks=asked.marks.get("tuned", {}),
            )
            for asked in whole(one.run, one.head).examples
        ]
    return [_of_old(row) for row in one.old_answers().get("examples", [])]


def _of_old(row: dict[str, Any]) -> Given:
    """An answer kept by an earlier version: without a number, right or not."""
    texts = (str(row.get(name) or "") for name in ("prompt", "expected", "base", "tuned"))
    prompt, expected, base, tuned = texts
    right = {"base": base.strip() == expected.strip(), "tuned": tuned.strip() == expected.strip()}
    kept = {which: bool(row.get(f"{which}_right", same)) for which, same in right.items()}
    scores = {"exact_match": {which: float(is_right) for which, is_right in kept.items()}}
    return Given(None, prompt, expected, base, tuned, scores)


def shared_rows(runs: Sequence[Compared], given: Sequence[Sequence[Given]]) -> list[SharedRow]:
    """The rows that all runs with answers were asked, in the order of the first of them.

    [] where fewer than two have answers, and where they were asked about different data.
    """
    asked = [one for one, rows in zip(runs, given, strict=True) if rows]
    if len(asked) < 2 or len({_asked_data(one) for one in asked}) > 1:
        return []
    key = _key(given)
    by_key = [_first_of_each(rows, key) for rows in given]
    one_base = len({one.settings["base_model"] for one in asked}) == 1
    found = []
    for at, first in next(filter(None, by_key)).items():
        rows = [known.get(at) for known in by_key]
        if all(row is not None or not known for row, known in zip(rows, by_key, strict=True)):
            present = [row for row in rows if row is not None]
            if all(row.expected == first.expected for row in present):
                found.append(_side_by_side(rows, one_base))
    return found


def _first_of_each(
    rows: Sequence[Given], key: Callable[[Given], Hashable]
) -> dict[Hashable, Given]:
    found: dict[Hashable, Given] = {}
    for row in rows:
        found.setdefault(key(row), row)
    return found


def _asked_data(one: Compared) -> str:
    return one.data_of(one.head) if one.head is not None else one.data


def _key(given: Sequence[Sequence[Given]]) -> Callable[[Given], Hashable]:
    numbered = all(row.row is not None for rows in given for row in rows)
    return (lambda row: row.row) if numbered else (lambda row: (row.prompt, row.expected))


def _side_by_side(rows: Sequence[Given | None], one_base: bool) -> SharedRow:
    present = [row for row in rows if row is not None]
    first = next((row for row in present if row.row is not None), present[0])
    return SharedRow(
        first.row,
        first.prompt,
        first.expected,
        first.base if one_base else "",
        [row.tuned if row else None for row in rows],
        [_tuned(row) if row else {} for row in rows],
        [row.marks if row else {} for row in rows],
        first.messages,
    )


def _tuned(row: Given) -> dict[str, float]:
    return {name: both["tuned"] for name, both in row.scores.items() if "tuned" in both}
