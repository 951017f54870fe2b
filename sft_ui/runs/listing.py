"""All runs of the home as rows of the table: summaries, scores, and the best of a sweep."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sft_ui.runs.score import score_of
from sft_ui.runs.view import ALL_TAGS, Row, all_tags
from trainer_backend.errors import UserError
from trainer_backend.runs import Run, list_runs, unreadable_runs
from trainer_backend.sweeps import best_runs


def listed_rows(home: Path) -> list[Row]:
    """Every run, newest first; those that cannot be read come last."""
    best = best_runs(home)
    rows = [Row(run.summary(), score_of(run), run.id in best) for run in list_runs(home)]
    return [*rows, *(Row(_unreadable(run, error)) for run, error in unreadable_runs(home))]


def tag_choices(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The tags in use as choices of the filter."""
    return [("All tags", ALL_TAGS), *((tag, tag) for tag in all_tags(rows))]


def _unreadable(run: Run, error: UserError) -> dict[str, Any]:
    """The summary of a run that cannot be opened, so that it does not vanish from the table."""
    unknown = dict.fromkeys(("loss", "eval_loss", "elapsed_seconds", "error", "no_progress"))
    words = {"base_model": "–", "dataset": "–", "state": f"Cannot be read: {error.what}"}
    created = {"created_at": run.dir.stat().st_mtime, "step": 0, "total_steps": 0}
    return {"id": run.id, "name": run.name(), **words, **unknown, **created}
