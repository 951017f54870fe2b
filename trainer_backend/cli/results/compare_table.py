"""A comparison of runs as a table for the terminal."""

from collections.abc import Iterator, Sequence

from trainer_backend.comparison.compare import Comparison
from trainer_backend.comparison.scores import Scores
from trainer_backend.comparison.words import (
    lead_words,
    measure_name,
    score_words,
    setting_name,
    setting_words,
)

MIN_COLUMN, MAX_COLUMN = 12, 34
SIDE = 22  # letters of the first column


def lines_of(found: Comparison, width: int) -> list[str]:
    """The comparison as lines of text for a terminal of `width` columns."""
    column = min(MAX_COLUMN, max(MIN_COLUMN, (width - SIDE) // len(found.compared) - 2))
    lines = []
    for title, rows in _parts(found):
        shown = [_line(name, cells, column) for name, cells in rows]
        if shown:
            lines += ["", title] if title else []
            lines += shown
    for one in found.leads:
        lines += ["", lead_words(one, found.compared)]
    lines += ["", *(f"Note: {note}" for note in found.notes)] if found.notes else []
    return lines


def _parts(found: Comparison) -> Iterator[tuple[str, Iterator[tuple[str, list[str]]]]]:
    data = found.to_dict()
    runs = data["runs"]
    yield (
        "",
        iter(
            [
                ("", [one["label"] for one in runs]),
                ("Run", [one["id"] for one in runs]),
                ("State", [one["state"] for one in runs]),
                ("Steps", [f"{one['step'] or 0:,}" for one in runs]),
                ("Training loss", [score_words("loss", one["loss"]) for one in runs]),
            ]
        ),
    )
    scores = found.scores
    mark = "scores of the tuned models, * the best, ~ does not compare"
    yield (
        f"Scores ({mark})",
        ((measure_name(n), _scores(n, scores.values[n], scores)) for n in scores.values),
    )
    same = f"Scores over the {scores.shared_rows:,} shared rows"
    yield (
        same,
        (
            (measure_name(name), _marked(name, means, scores.shared_best.get(name, [])))
            for name, means in scores.shared.items()
        ),
    )
    yield (
        "Settings that differ",
        (
            (setting_name(name), [setting_words(name, one) for one in values])
            for name, values in data["differences"].items()
        ),
    )


def _scores(name: str, values: Sequence[float | None], scores: Scores) -> list[str]:
    cells = _marked(name, values, scores.best.get(name, []))
    if scores.compare[name]:
        return cells
    return [f"{cell} ~" if cell != "–" else cell for cell in cells]


def _marked(name: str, values: Sequence[float | None], best: Sequence[int]) -> list[str]:
    return [
        f"{score_words(name, value)} *" if at in best else score_words(name, value)
        for at, value in enumerate(values)
    ]


def _line(name: str, cells: Sequence[str], column: int) -> str:
    shown = (_cut(cell, column).ljust(column) for cell in cells)
    return f"{_cut(name, SIDE):<{SIDE}}  {'  '.join(shown)}".rstrip()


def _cut(text: str, width: int) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= width else f"{line[: width - 1]}…"
