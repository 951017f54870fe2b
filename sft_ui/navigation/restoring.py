"""What a page shows when it is loaded: the run of its address, and the draft that was kept."""

from sft_ui.alerts import attempt, tell
from sft_ui.context import Studio
from sft_ui.recipe_form import form_values, read_form
from trainer_backend.data.store import open_dataset
from trainer_backend.runs import LIVE, list_runs, open_run


def run_to_show(studio: Studio, asked: str) -> str:
    """The id of the run in the URL, else of the newest live run, else ""."""
    if asked:
        run, error = attempt(open_run, studio.home, asked)
        if run:
            return run.id
        if error:
            tell(error)
    live = (run.id for run in list_runs(studio.home) if run.state()["state"] in LIVE)
    return next(live, "")


def restored(studio: Studio, draft: dict | None) -> tuple[str, str, dict]:
    """(dataset id, preset, form values) of a draft kept in the browser, where still valid."""
    if not isinstance(draft, dict):
        return "", "", {}
    dataset_id = str(draft.get("dataset_id") or "")
    dataset, _ = attempt(open_dataset, studio.home, dataset_id) if dataset_id else (None, None)
    kept = draft.get("values")
    recipe, _ = read_form(kept) if isinstance(kept, dict) and kept else (None, [])
    values = form_values(recipe) if recipe else {}
    return (dataset.id if dataset else ""), str(draft.get("preset") or ""), values
