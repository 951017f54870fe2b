"""A comparison for the page: the numbers in words, the rows short; the page draws what it gets."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sft_ui.run_words import state_words
from sft_ui.runs.table import duration
from trainer_backend.comparison.compare import Comparison, compare_runs
from trainer_backend.comparison.curves import CURVES, thinned
from trainer_backend.comparison.differences import differences
from trainer_backend.comparison.words import (
    lead_words,
    measure_name,
    score_words,
    setting_name,
    setting_words,
)
from trainer_backend.home import check_id
from trainer_backend.runs.files import CHANGES, EVALUATIONS, EVENTS, NAME, NOTES, STATE

SHOWN = 240  # letters of a text in the list of rows
WATCHED = (STATE, EVENTS, EVALUATIONS, NAME, NOTES, CHANGES)


def stamp_of(home: Path, ids: Sequence[str]) -> str:
    """A text that changes when anything that a comparison shows of these runs has changed."""
    parts = []
    for one in ids:
        folder = home / "runs" / check_id(one, "run")
        for name in WATCHED:
            try:
                found = os.stat(folder / name)
                parts.append(f"{found.st_mtime_ns}.{found.st_size}")
            except OSError:
                parts.append("-")
    return " ".join(parts)


def page_data(home: Path, ids: Sequence[str]) -> dict[str, Any]:
    """What the page shows of a comparison. Raises UserError as `compare_runs` does."""
    stamp = stamp_of(home, ids)
    found = compare_runs(home, ids)
    return {
        "stamp": stamp,
        "live": any(one.is_live for one in found.compared),
        "runs": [_run(one) for one in found.to_dict()["runs"]],
        "curves": {
            run: {name: thinned(both[name]) for name in CURVES}
            for run, both in found.curves.items()
        },
        "scores": _scores(found),
        "shared": _shared(found),
        "settings": _settings(found),
        "answers": _rows(found),
        "findings": [lead_words(one, found.compared) for one in found.leads],
        "notes": found.notes,
    }


def whole_row(home: Path, ids: Sequence[str], at: int) -> dict[str, Any]:
    """One row of the answers side by side, with whole texts; {} where there is none."""
    rows = compare_runs(home, ids).answers
    if not 0 <= at < len(rows):
        return {}
    row = rows[at]
    return {
        **row.to_dict(),
        "messages": [
            {"role": str(one.get("role", "")), "content": _said(one)} for one in row.messages
        ],
        "scores": [_row_scores(scores) for scores in row.scores],
    }


def _said(message: dict[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else str(content or message.get("tool_calls") or "")


def _row_scores(scores: dict[str, float]) -> list[str]:
    return [f"{measure_name(name)} {score_words(name, value)}" for name, value in scores.items()]


def _run(one: dict[str, Any]) -> dict[str, Any]:
    model = str(one["base_model"]).rstrip("/").rpartition("/")[2]
    return {
        "id": one["id"],
        "label": one["label"],
        "name": one["name"],
        "state": state_words({**one, "error": None}),
        "kind": one["state"],
        "about": f"{model} on {one['dataset']}",
        "steps": f"{one['step'] or 0:,} of {one['total_steps'] or 0:,}",
        "loss": score_words("loss", one["loss"]),
        "time": duration(one["elapsed_seconds"]),
        "memory": f"{one['memory_gb']:.1f} GB" if one["memory_gb"] else "–",
        "rows": one["rows"],
        "tags": one["tags"],
        "notes": one["notes"],
    }


def _scores(found: Comparison) -> list[dict[str, Any]]:
    scores = found.scores
    return [
        {
            "name": measure_name(name),
            "better": scores.better[name],
            "compares": scores.compare[name],
            "best": scores.best.get(name, []),
            "values": [score_words(name, value) for value in values],
            "base": [score_words(name, value) for value in scores.base.get(name, [])],
        }
        for name, values in scores.values.items()
    ]


def _shared(found: Comparison) -> dict[str, Any]:
    scores = found.scores
    measures = [
        {
            "name": measure_name(name),
            "better": scores.better[name],
            "compares": True,
            "best": scores.shared_best.get(name, []),
            "values": [score_words(name, value) for value in values],
            "base": [],
        }
        for name, values in scores.shared.items()
    ]
    return {"rows": scores.shared_rows, "measures": measures}


def _settings(found: Comparison) -> list[dict[str, Any]]:
    differing = differences(found.settings)
    return [
        {
            "name": setting_name(name),
            "key": name,
            "differs": name in differing,
            "values": [setting_words(name, value) for value in values],
        }
        for name, values in found.settings.items()
    ]


def _rows(found: Comparison) -> list[dict[str, Any]]:
    """The rows as the list shows them; whether a row is right is known by its main measure."""
    main = next((one.head.main for one in found.compared if one.head), "exact_match")
    return [
        {
            "row": row.row,
            "prompt": _short(row.prompt),
            "texts": _short("\n".join([row.expected, *(one or "" for one in row.answers)])),
            "scores": [scores.get(main) for scores in row.scores],
            "differs": len({one for one in row.answers if one is not None}) > 1,
        }
        for row in found.answers
    ]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"
