"""What an evaluation can be asked for on the page: data, checkpoint, rows, measures.

Ids come from the browser and are checked here; paths never do.
"""

from collections.abc import Mapping
from typing import Any

from sft_ui.context import Studio
from sft_ui.evaluation.words import MEASURES, help_of, title
from trainer_backend.data.store import list_datasets, open_dataset
from trainer_backend.errors import UserError
from trainer_backend.evaluation.results import LOSSES
from trainer_backend.runs import ACTIVE, LIVE, Run

MOST_DATASETS = 200
MOST_ROWS = 500
USUAL_ROWS = 40


def choices_of(studio: Studio, run: Run) -> dict[str, Any]:
    """What the form offers: {"can", "live", "note", "data", "checkpoints", "rows", …}."""
    kept, result = run.checkpoints(), run.result()
    state = run.state()
    held_out = state.get("num_eval_rows")
    own = "Held-out rows of this run" + (f" ({held_out:,})" if held_out else "")
    data = [("", own), *_datasets(studio)]
    busy = state["state"] in ACTIVE
    return {
        "can": bool(kept),
        "live": state["state"] in LIVE,
        "note": "The run is still training; both become slower meanwhile." if busy else "",
        "data": [{"value": value, "words": words} for value, words in data],
        "checkpoints": [
            {"value": "", "words": f"Result of the run (step {result.step:,})" if result else "–"},
            *(
                {"value": str(one.step), "words": _checkpoint(one.step, one.eval_loss)}
                for one in reversed(kept)
            ),
        ],
        "rows": run.recipe().answer_check_rows or USUAL_ROWS,
        "most": MOST_ROWS,
        "measures": [
            {"value": name, "words": title(name), "help": help_of(name)}
            for name in MEASURES
            if name not in LOSSES
        ],
    }


def _checkpoint(step: int, loss: float | None) -> str:
    return f"Step {step:,}" + (f" · eval loss {loss:.4g}" if loss is not None else "")


def _datasets(studio: Studio) -> list[tuple[str, str]]:
    """Stored datasets with answers to compare with."""
    usable = [
        one for one in list_datasets(studio.home) if one.num_examples and one.format != "text"
    ]
    return [(one.id, f"{one.label} ({one.num_examples:,} rows)") for one in usable[:MOST_DATASETS]]


def read_options(studio: Studio, run: Run, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an evaluation: {"rows", "dataset", "checkpoint", "metrics"}; None: as usual.

    Raises UserError for what cannot be.
    """
    dataset, checkpoint = str(asked.get("data") or ""), str(asked.get("checkpoint") or "")
    return {
        "rows": _rows(asked.get("rows")),
        "dataset": open_dataset(studio.home, dataset).id if dataset else None,
        "checkpoint": _step(run, checkpoint) if checkpoint else None,
        "metrics": _measures(asked.get("measures")),
    }


def _rows(value: object) -> int | None:
    if value in (None, ""):
        return None
    try:
        rows = int(str(value))
    except ValueError:
        rows = 0
    if not 1 <= rows <= MOST_ROWS:
        raise UserError("Rows to ask", str(value), f"Enter a number from 1 to {MOST_ROWS}.")
    return rows


def _step(run: Run, text: str) -> int:
    steps = [one.step for one in run.checkpoints()]
    if not text.isdigit() or int(text) not in steps:
        raise UserError("This checkpoint is gone.", f"step {text}", "Choose another checkpoint.")
    return int(text)


def _measures(names: object) -> str | None:
    known = [name for name in names if name in MEASURES] if isinstance(names, list) else []
    return ",".join(known) or None
