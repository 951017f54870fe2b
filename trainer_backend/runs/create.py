"""Creates, lists and opens runs: from a base model, from another run's weights, or as a retry."""

import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from trainer_backend.data.store import StoredDataset, open_dataset
from trainer_backend.errors import UserError
from trainer_backend.hardware import hardware
from trainer_backend.home import check_id, new_id, write_atomic, write_json
from trainer_backend.models import check_known
from trainer_backend.recipe import LORA_FIELDS, Recipe, named, save_recipe
from trainer_backend.recipe.resolve import resolve
from trainer_backend.runs.files import CHECKPOINTS, RECIPE, SPEC, START
from trainer_backend.runs.run import Run
from trainer_backend.runs.spec import file_facts, make_spec
from trainer_backend.runs.state import begin, has_ended, is_run

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "config.json")


@dataclass(frozen=True)
class StartWeights:
    """A committed checkpoint of another run."""

    run: Run
    step: int
    folder: Path


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
    """Create the folder of a new run, in state “queued”. The same key twice returns the same run.

    With `foreground` the caller starts the worker itself and no scheduler takes the run; with
    `start` it begins with another run's weights. Raises UserError if the dataset has no rows to
    train on, the model does not exist, or this machine cannot run the recipe.
    """
    _check_dataset(dataset)
    check_known(home, recipe.base_model)
    resolve(recipe, machine := hardware())
    with FileLock(home / "runs" / ".create.lock"):
        if key and (same := _run_with_key(home, key)):
            return same
        open_dataset(home, dataset.id)  # it exists, and cannot be deleted while the lock is held
        run = Run(home / "runs" / new_id("run"))
        (run.dir / CHECKPOINTS).mkdir(parents=True)
        facts = {
            "id": run.id,
            "key": key,
            "created_at": time.time(),
            "preset": preset,
            "start": copy_start_weights(start, run.dir) if start else None,
        }
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
            first.what if first else "The dataset has no rows to train on.",
            first.where if first else dataset.name,
            first.fix if first else "Upload rows with a prompt and a response.",
        )


def _key_file(home: Path, key: str) -> Path:
    """The file with the id of a key's run, so that a lookup need not read every run."""
    folder = home / "runs" / ".keys"
    folder.mkdir(exist_ok=True)
    return folder / hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _run_with_key(home: Path, key: str) -> Run | None:
    noted = _key_file(home, key)
    if noted.exists():
        run = Run(home / "runs" / check_id(noted.read_text(encoding="utf-8"), "run"))
        return run if is_run(run.dir) else None
    # after a crash before the file was written, or for a run of an older version
    return next((run for run in list_runs(home) if run.spec().get("key") == key), None)


def new_run_from(
    run: Run, recipe: Recipe, dataset: StoredDataset | None = None, **more: Any
) -> Run:
    """Create a run that starts from the result of `run`, on its dataset or another one.

    `more` are arguments of `create_run`. Raises UserError if the run has no checkpoint, or the
    recipe has another base model, method or adapter than those weights.
    """
    weights = start_weights(run, recipe)
    return create_run(run.home, recipe, dataset or run.dataset(), start=weights, **more)


def start_weights(run: Run, recipe: Recipe) -> StartWeights:
    """The result of a run as initial weights. Raises UserError if the recipe does not fit them."""
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
            "Keep the settings of that run, or start from the base model.",
        )
    return StartWeights(run, chosen.step, chosen.path)


def copy_start_weights(start: StartWeights, folder: Path) -> dict[str, Any]:
    """Copy the weights into a new run's folder; returns the entry `start` of its spec.

    Raises UserError if there are none. Hard links where possible: either run may be deleted.
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
    """The initial weights of `run`, for a run that repeats it; None for those of the base model."""
    begun = run.spec()["start"]
    if begun is None:
        return None
    return StartWeights(Run(run.dir.with_name(begun["run"])), begun["step"], run.dir / START)


def retry_run(run: Run, changes: dict[str, Any] | None = None, **more: Any) -> Run:
    """Create the same run again, from its initial weights, with some settings changed.

    Without `changes`, those that the run's error offers. Raises UserError if it offers none.
    """
    changes = _offered(run) if changes is None else changes
    recipe = Recipe.from_dict({**run.settings(), **changes}, "Start again")
    name = None if "base_model" in changes else run.name()  # it tells the model
    more = {"name": name, "preset": run.spec()["preset"], "start": same_start(run), **more}
    return create_run(run.home, recipe, run.dataset(), **more)


def _offered(run: Run) -> dict[str, Any]:
    offer = ((run.state().get("error") or {}).get("offer") or {}).get("retry")
    if offer is None:
        fix = "Change the settings and start a new run."
        raise UserError("This run offers nothing to change.", run.name(), fix)
    return offer


def list_runs(home: Path) -> list[Run]:
    """All readable runs, newest first, without those being created or deleted."""
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
    """Runs that cannot be read because of damage or a newer format, and why."""
    found = []
    for path in sorted((home / "runs").glob("run-*")):
        run = Run(path)
        try:
            run.spec(), run.recipe_changes()
        except UserError as error:
            found.append((run, error))
        except (OSError, ValueError, KeyError):
            continue  # being created or deleted
    return found


def unfinished_runs(home: Path) -> list[Run]:
    """Queued and active runs, in no order; fast, because the scheduler asks twice a second."""
    folder, found = str(home / "runs"), []
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        try:
            if name.startswith("run-") and not has_ended(path := f"{folder}/{name}"):
                found.append(Run(Path(path)))
        except (OSError, ValueError, KeyError):
            continue  # being created, or damaged
    return found


def open_run(home: Path, run_id: str) -> Run:
    """The run with this id. Raises UserError if there is none."""
    run = Run(home / "runs" / check_id(run_id, "run"))
    if not is_run(run.dir):
        raise UserError("There is no such run.", f"Run “{run.id}”", "Choose a run from the list.")
    return run
