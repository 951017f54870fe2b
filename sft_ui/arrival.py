"""What a page shows when it opens: the run in its address or a live one, and the draft kept.

The draft is written by layout.py and lives in the visitor's browser: ids and settings only.
"""

from sft_ui.alerts import attempt, tell
from sft_ui.context import Studio
from sft_ui.recipe_form import form_values, read_form
from trainer_backend.data.store.dataset import open_dataset
from trainer_backend.runs.create import list_runs, open_run
from trainer_backend.runs.state import LIVE


def run_to_show(studio: Studio, asked: str) -> str:
    """The run in the address if there is one, else the newest that is live, else none."""
    if asked:
        run, error = attempt(open_run, studio.home, asked)
        if run:
            return run.id
        tell(error)
    live = (run.id for run in list_runs(studio.home) if run.state()["state"] in LIVE)
    return next(live, "")


def restored(studio: Studio, draft: dict | None) -> tuple[str, str, dict]:
    """Dataset, preset and form values a reload brings back, as far as they still hold."""
    if not isinstance(draft, dict):
        return "", "", {}
    dataset_id = str(draft.get("dataset_id") or "")
    dataset, _ = attempt(open_dataset, studio.home, dataset_id) if dataset_id else (None, None)
    values = draft.get("values") if isinstance(draft.get("values"), dict) else {}
    recipe, problems = read_form(values)
    whole = form_values(recipe) if recipe and not problems and values else {}
    return (dataset.id if dataset else ""), str(draft.get("preset") or ""), whole
