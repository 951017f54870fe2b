"""All runs of the home as rows of the table: summaries and scores, read anew where they changed."""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sft_ui.runs.score import score_of
from sft_ui.runs.view import ALL_TAGS, Row, all_tags
from trainer_backend.errors import UserError
from trainer_backend.runs import Run
from trainer_backend.runs.files import EVALUATIONS
from trainer_backend.sweeps import best_runs

SETTLED_S = 2.0  # a folder that changed later may change again without another time of change

Stamp = tuple[int, int]
_known: dict[Path, dict[str, tuple[Stamp, Row]]] = {}  # of each home


def listed_rows(home: Path) -> list[Row]:
    """Every run, newest first, without those being created or deleted.

    Files of a run are replaced and never rewritten, so its folder tells when one has changed.
    """
    before, now = _known.get(home, {}), {}
    rows = []
    with os.scandir(home / "runs") as entries:
        names = [entry.name for entry in entries if entry.name.startswith("run-")]
    for name in names:
        found = before.get(name)
        stamp = _stamp(home / "runs" / name)
        if found is None or found[0] != stamp:
            row = _row(Run(home / "runs" / name))
            found = (stamp, row) if row else None
        if found is not None:
            rows.append(found[1])
            if time.time() - max(stamp) / 1e9 > SETTLED_S:
                now[name] = found
    _known[home] = now
    best = best_runs(home)
    rows = [replace(row, is_best=True) if row.summary["id"] in best else row for row in rows]
    return sorted(rows, key=lambda row: (row.summary["created_at"], row.summary["id"]))[::-1]


def tag_choices(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The tags in use as choices of the filter."""
    return [("All tags", ALL_TAGS), *((tag, tag) for tag in all_tags(rows))]


def _stamp(folder: Path) -> Stamp:
    """When the folder of a run, and that of its evaluations, last changed."""
    found = []
    for path in (f"{folder}", f"{folder}/{EVALUATIONS}"):
        try:
            found.append(os.stat(path).st_mtime_ns)
        except OSError:
            found.append(0)
    return found[0], found[1]


def _row(run: Run) -> Row | None:
    """The row of a run; None for one that is being created or deleted."""
    try:
        return Row(run.summary(), score_of(run))
    except UserError as error:
        return Row(_unreadable(run, error))
    except (OSError, ValueError, KeyError):
        return None


def _unreadable(run: Run, error: UserError) -> dict[str, Any]:
    """The summary of a run that cannot be opened, so that it does not vanish from the table."""
    unknown = dict.fromkeys(("loss", "eval_loss", "elapsed_seconds", "error", "no_progress"))
    words = {"base_model": "–", "dataset": "–", "state": f"Cannot be read: {error.what}"}
    created = {"created_at": run.dir.stat().st_mtime, "step": 0, "total_steps": 0}
    return {"id": run.id, "name": run.name(), **words, **unknown, **created}
