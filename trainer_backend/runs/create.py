"""Creating, listing and opening runs; a new run from another's weights or with other settings.

What is in a run's folder is run_folder.py.
"""

import hashlib
import time
from pathlib import Path

from filelock import FileLock

from trainer_backend.data.store.dataset import StoredDataset, open_dataset
from trainer_backend.errors import UserError
from trainer_backend.hardware import hardware
from trainer_backend.home import check_id, new_id, write_atomic, write_json
from trainer_backend.models.source import locate_model
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.recipe.recipe_file import save_recipe
from trainer_backend.recipe.resolve import resolve
from trainer_backend.runs.files import CHECKPOINTS, RECIPE, SPEC
from trainer_backend.runs.run import Run
from trainer_backend.runs.spec import make_spec
from trainer_backend.runs.start_weights import (
    StartWeights,
    copy_start_weights,
    same_start,
    start_weights,
)
from trainer_backend.runs.state import LIVE, begin, is_run


def create_run(  # noqa: PLR0913 - one keyword a fact of the run
    home: Path,
    recipe: Recipe,
    dataset: StoredDataset,
    *,
    name: str | None = None,
    preset: str | None = None,
    key: str | None = None,
    foreground: bool = False,
    start: StartWeights | None = None,
) -> Run:
    """Make the folder of a new run, in state “queued”. The same key twice gives the same run.

    With `foreground` the caller starts the worker itself and no scheduler may take the run. With
    `start` it begins with the weights of another run instead of the base model's.

    Raises UserError when the dataset has nothing to train on, the model cannot be meant, or the
    recipe is impossible on this machine: what can be known now does not wait for the worker.
    """
    _check_dataset(dataset)
    locate_model(home, recipe.base_model)
    resolve(recipe, machine := hardware())
    with FileLock(home / "runs" / ".create.lock"):
        if key and (same := _run_with_key(home, key)):
            return same
        open_dataset(home, dataset.id)  # nobody deleted it in the meantime, nor can from here on
        run = Run(home / "runs" / new_id("run"))
        (run.dir / CHECKPOINTS).mkdir(parents=True)
        facts = {"id": run.id, "key": key, "created_at": time.time(), "preset": preset}
        facts["start"] = copy_start_weights(start, run.dir) if start else None
        write_json(run.dir / SPEC, make_spec(facts, recipe, dataset, machine))
        save_recipe(recipe, run.dir / RECIPE)
        run.rename(name or f"{recipe.base_model.rstrip('/').rpartition('/')[2]} on {dataset.name}")
        begin(run.dir, foreground=foreground)
        if key:
            write_atomic(_key_file(home, key), run.id)
    return run


def _check_dataset(dataset: StoredDataset) -> None:
    if dataset.num_examples == 0:
        first = next((p for p in dataset.problems if p.severity == "error"), None)
        raise UserError(
            first.what if first else "The data has no row to train on.",
            first.where if first else dataset.name,
            first.fix if first else "Upload rows with a prompt and a response.",
        )


def _key_file(home: Path, key: str) -> Path:
    """Where the run of a key is noted, so that a start need not read every run."""
    folder = home / "runs" / ".keys"
    folder.mkdir(exist_ok=True)
    return folder / hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _run_with_key(home: Path, key: str) -> Run | None:
    noted = _key_file(home, key)
    if noted.exists():
        run = Run(home / "runs" / check_id(noted.read_text(encoding="utf-8"), "run"))
        return run if is_run(run.dir) else None
    # a crash between making the run and noting its key, or a run of an older version
    return next((run for run in list_runs(home) if run.spec().get("key") == key), None)


def new_run_from(run: Run, recipe: Recipe, dataset: StoredDataset | None = None, **more) -> Run:
    """A new run that begins with the weights `run` ended with, on its data or other data.

    `more` is what create_run takes. Raises UserError when the run has no intact checkpoint, or
    the recipe asks for another model, method or adapter than those weights are.
    """
    weights = start_weights(run, recipe)
    return create_run(run.home, recipe, dataset or run.dataset(), start=weights, **more)


def retry_run(run: Run, changes: dict | None = None, **more) -> Run:
    """The same run again from its beginning, with some settings changed.

    None stands for what the error of the run offers. Raises UserError when it offers nothing.
    """
    changes = _offered(run) if changes is None else changes
    recipe = Recipe.from_dict({**run.settings(), **changes}, "Start again")
    more = {"name": run.name(), "preset": run.spec()["preset"], "start": same_start(run), **more}
    return create_run(run.home, recipe, run.dataset(), **more)


def _offered(run: Run) -> dict:
    offer = ((run.state().get("error") or {}).get("offer") or {}).get("retry")
    if offer is None:
        fix = "Change the settings and start a new run."
        raise UserError("This run offers nothing to change.", run.name(), fix)
    return offer


def list_runs(home: Path) -> list[Run]:
    """All runs that can be read, newest first; none that is being made or deleted."""
    found = []
    for path in (home / "runs").glob("run-*"):
        run = Run(path)
        try:
            run.state(), run.recipe_changes()
            found.append((run.spec()["created_at"], run.id, run))
        except (UserError, OSError, ValueError, KeyError):
            continue
    return [run for *_, run in sorted(found, key=lambda one: one[:2], reverse=True)]


def unreadable_runs(home: Path) -> list[tuple[Run, UserError]]:
    """Runs that list_runs leaves out because of damage or a newer format, and what is wrong."""
    found = []
    for path in sorted((home / "runs").glob("run-*")):
        run = Run(path)
        try:
            run.spec(), run.recipe_changes()
        except UserError as error:
            found.append((run, error))
        except (OSError, ValueError, KeyError):
            continue  # being made or deleted
    return found


def unfinished_runs(home: Path) -> list[Run]:
    """Runs that wait or work, in no order; quick, because it is asked twice a second."""
    found = []
    for path in (home / "runs").glob("run-*"):
        try:
            if Run(path).state()["state"] in LIVE:
                found.append(Run(path))
        except (OSError, ValueError, KeyError):
            continue  # being made, or damaged
    return found


def open_run(home: Path, run_id: str) -> Run:
    """The run with this id. Raises UserError if there is none."""
    run = Run(home / "runs" / check_id(run_id, "run"))
    if not is_run(run.dir):
        raise UserError("There is no such run.", f"run {run.id}", "Choose a run from the list.")
    return run
