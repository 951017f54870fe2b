"""What an evaluation can be asked for on the page: data, checkpoint, rows, measures.

Ids come from the browser; what they mean is checked in the library, paths are not taken.
"""

from collections.abc import Mapping
from typing import Any

from sft_ui.context import Studio
from sft_ui.evaluation.words import help_of
from trainer_backend.data.store import list_datasets
from trainer_backend.errors import UserError
from trainer_backend.evaluation.measures import MEASURES
from trainer_backend.evaluation.request import request_of
from trainer_backend.evaluation.shown import measure_label
from trainer_backend.runs import ACTIVE, LIVE, Run

MOST_DATASETS = 200
MOST_ROWS = 500
USUAL_ROWS = 40
WAIT = "The run is still training. It can be evaluated when it has ended or was stopped."


def choices_of(studio: Studio, run: Run) -> dict[str, Any]:
    """What the form offers: {"can", "live", "note", "data", "checkpoints", "rows", …}."""
    state, held_out = run.state(), run.state().get("num_eval_rows")
    own = "Held-out rows of this run" + (f" ({held_out:,})" if held_out else "")
    is_active = state["state"] in ACTIVE
    return {
        "can": bool(run.checkpoints()) and not is_active,
        "live": state["state"] in LIVE,
        "note": WAIT if is_active else "",
        "data": _choices([("", own), *_datasets(studio)]),
        "checkpoints": _choices(_checkpoints(run)),
        "rows": min(run.recipe().answer_check_rows or USUAL_ROWS, MOST_ROWS),
        "most": MOST_ROWS,
        "measures": [
            {"value": name, "words": measure_label(name), "help": help_of(name)}
            for name in MEASURES
        ],
    }


def _choices(pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"value": value, "words": words} for value, words in pairs]


def _checkpoints(run: Run) -> list[tuple[str, str]]:
    """The run's result, then each checkpoint, newest first."""
    kept, result = run.checkpoints(), run.result()
    own = f"Result of the run (step {result.step:,})" if result else "–"
    losses = {
        one.step: "" if one.eval_loss is None else f" · eval loss {one.eval_loss:.4g}"
        for one in kept
    }
    steps = [(str(step), f"Step {step:,}{loss}") for step, loss in reversed(losses.items())]
    return [("", own), *steps, *([("all", "Every checkpoint")] if len(kept) > 1 else [])]


def _datasets(studio: Studio) -> list[tuple[str, str]]:
    """Stored datasets with answers to compare with."""
    usable = [
        one for one in list_datasets(studio.home) if one.num_examples and one.format != "text"
    ]
    return [(one.id, f"{one.label} ({one.num_examples:,} rows)") for one in usable[:MOST_DATASETS]]


def read_options(run: Run, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an evaluation: those given of {"dataset_id", "rows", "checkpoint", "metrics"}.

    Raises UserError for what cannot be, before a model is loaded.
    """
    rows = str(asked.get("rows") or "")
    if rows.isdecimal() and int(rows) > MOST_ROWS:
        raise UserError(f"{rows} rows are too many here.", "Rows", f"Enter 1 to {MOST_ROWS}.")
    options = {
        "dataset_id": asked.get("data"),
        "rows": rows,
        "checkpoint": asked.get("checkpoint"),
        "metrics": asked.get("measures"),
    }
    given = {name: value for name, value in options.items() if value}
    request_of(run, given, "Options").check(run)
    return given
