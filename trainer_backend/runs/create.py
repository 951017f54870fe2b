"""Creating, listing and opening runs; a new run from another's weights or with other settings.

What is in a run's folder is run_folder.py.
"""

import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from trainer_backend.data.store import StoredDataset, open_dataset
from trainer_backend.errors import UserError
from trainer_backend.hardware import hardware
from trainer_backend.home import check_id, new_id, write_atomic, write_json
from trainer_backend.models import locate_model
from trainer_backend.recipe import LORA_FIELDS, Recipe, named, save_recipe
from trainer_backend.recipe.resolve import resolve
from trainer_backend.runs.files import CHECKPOINTS, RECIPE, SPEC, START
from trainer_backend.runs.run import Run
from trainer_backend.runs.spec import file_facts, make_spec
from trainer_backend.runs.state import LIVE, begin, is_run

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "config.json")


@dataclass(frozen=True)
class StartWeights:
    """A committed checkpoint of another run."""

    run: Run
    step: int
    folder: Path


def start_weights(run: Run, recipe: Recipe) -> StartWeights:
    """The result of a run as a beginning. Raises UserError when it does not fit the recipe."""
    chosen = run.result()
    if chosen is None:
        raise UserError(
            "This run has no checkpoint to start from.",
            run.name(),
            "Start again from the base model with the same settings.",
            code="checkpoints_bad",
            offer={"retry": {}},
        )
    same = ("base_model", *([] if recipe.adapter == "full" else LORA_FIELDS))
    before = run.recipe()
    fixed = [name for name in same if getattr(recipe, name) != getattr(before, name)]
    if (recipe.adapter == "full") != (before.adapter == "full"):
        fixed.append("adapter")
    if fixed:
        raise UserError(
            f"{named(fixed)} must be those of the weights to start from.",
            f"run {run.name()}, step {chosen.step}",
            "Leave them as they were in that run, or start from the base model.",
        )
    return StartWeights(run, chosen.step, chosen.path)


def copy_start_weights(start: StartWeights, folder: Path) -> dict:
    """Put the weights into a new run's folder; returns what its spec says about them.

    Linked where the disk allows it: the same bytes, and either run may be deleted.
    """
    target = folder / START
    target.mkdir()
    names = sorted({path.name for kind in WEIGHTS for path in start.folder.glob(kind)})
    for name in names:
        try:
            os.link(start.folder / name, target / name)
        except OSError:
            shutil.copy2(start.folder / name, target / name)
    if not names:
        raise UserError("The checkpoint holds no weights.", str(start.folder), "Choose another.")
    files = {name: file_facts(target / name) for name in names}
    return {"run": start.run.id, "step": start.step, "files": files}


def same_start(run: Run) -> StartWeights | None:
    """The weights `run` itself began with, for a run that repeats it; None for the base model's."""
    begun = run.spec()["start"]
    if begun is None:
        return None
    return StartWeights(Run(run.dir.with_name(begun["run"])), begun["step"], run.dir / START)


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
