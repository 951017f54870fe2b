"""One run's folder: where its parts are, how they are read, what else may be asked of it.

The worker's writing side is run_writer.py; creating and listing runs is runs.py; damaged files of
a folder are told apart in run_state.py, run_spec.py and run_events.py.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from trainer_backend.data.store import StoredDataset, open_dataset
from trainer_backend.errors import UserError
from trainer_backend.home import read_json, write_atomic, write_json
from trainer_backend.recipe import Recipe, save_recipe
from trainer_backend.runs.checkpoints import Checkpoint, committed
from trainer_backend.runs.events import curve_rows, read_events
from trainer_backend.runs.files import CHANGES, CHECKPOINTS, LOCK, NAME, RECIPE, STALLED, STOP
from trainer_backend.runs.spec import check_changes, damaged_file
from trainer_backend.runs.state import ACTIVE, LIVE, STATE_KEYS, remembered_spec, remembered_state
from trainer_backend.runs.worker_log import log_tail

MAX_NAME = 120


@dataclass(frozen=True)
class Run:
    """One attempt at fine-tuning: a folder with read methods."""

    dir: Path

    @property
    def id(self) -> str:
        return self.dir.name

    @property
    def home(self) -> Path:
        return self.dir.parent.parent

    def spec(self) -> dict:
        """What was asked for and begun with; the worker adds the hashes once. Raises UserError."""
        return remembered_spec(self.dir)

    def settings(self) -> dict:
        """The recipe as plain data, with what was changed at a resume."""
        changes = [one["changes"] for one in self.recipe_changes()]
        return {key: v for part in (self.spec()["recipe"], *changes) for key, v in part.items()}

    def recipe(self) -> Recipe:
        return Recipe.from_dict(self.settings(), f"run {self.id}")

    def recipe_changes(self) -> list[dict]:
        """What was changed after the start, oldest first: {"t", "changes", "why"}.

        Raises UserError when it cannot be read: without it the run would go on with other settings.
        """
        path = self.dir / CHANGES
        try:
            found = read_json(path) or []
            if all(isinstance(one["changes"], dict) for one in found):
                return list(found)
            raise ValueError("not a list of changes")
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise damaged_file("The settings changed at a resume", path, error) from None

    def change_recipe(self, changes: dict, why: str) -> Recipe:
        """Go on with other settings. Raises UserError when a locked one is among them."""
        before = self.recipe()
        after = Recipe.from_dict({**before.to_dict(), **changes}, "Resume")
        if real := check_changes(before, after):
            entry = {"t": time.time(), "changes": real, "why": why}
            write_json(self.dir / CHANGES, [*self.recipe_changes(), entry])
        # even without a change: a crash may have come between the two files the last time
        save_recipe(after, self.dir / RECIPE)
        return after

    def name(self) -> str:
        try:
            return (self.dir / NAME).read_text(encoding="utf-8", errors="replace") or self.id
        except OSError:
            return self.id

    def state(self) -> dict:
        """Where the run stands: the last state the worker (or, after it, the scheduler) wrote."""
        return remembered_state(self.dir)

    def summary(self) -> dict:
        """The run in one flat object: what `show --json` prints and the Runs tab lists."""
        spec, state, recipe = self.spec(), self.state(), self.settings()
        facts = {
            "id": self.id,
            "name": self.name(),
            "state": state["state"],
            "base_model": recipe["base_model"],
            "adapter": recipe["adapter"],
            "preset": spec["preset"],
            "dataset": spec["dataset"]["name"],
            "dataset_id": spec["dataset"]["id"],
            "created_at": spec["created_at"],
            "num_train_epochs": recipe["num_train_epochs"],
            "no_progress": self.stalled() if state["state"] in ACTIVE else None,
            "dir": str(self.dir),
        }
        empty = dict.fromkeys(STATE_KEYS)
        return {**empty, "step": 0, "total_steps": 0, "warnings": [], **facts, **state}

    def stalled(self) -> dict | None:
        """{"phase", "seconds", "limit", "frozen"} while the worker makes no progress, else None."""
        return read_json(self.dir / STALLED, {}) or None

    def events(self, offset: int = 0) -> tuple[list[dict], int]:
        """Events from a byte offset on, and the offset to ask from next."""
        return read_events(self.dir, offset)

    def metrics(self, since: int = 0) -> list[dict]:
        """Rows of the curves (training and evaluation) after the first `since` rows.

        Steps that were done again after a resume are listed once, as done the last time.
        """
        return curve_rows(self.events()[0])[since:]

    def log_tail(self, lines: int = 200) -> str:
        """The last lines the worker printed, without secrets."""
        return log_tail(self.dir, lines)

    def checkpoints(self) -> list[Checkpoint]:
        """Committed checkpoints, oldest first."""
        return committed(self.dir / CHECKPOINTS)

    def result(self) -> Checkpoint | None:
        """What the run is worth: its newest checkpoint, or the best one if the recipe says so."""
        kept = self.checkpoints()
        step = self.state().get("result_step")
        chosen = [one for one in kept if one.step == step]
        return (chosen or kept or [None])[-1]

    def dataset(self) -> StoredDataset:
        return open_dataset(self.home, self.spec()["dataset"]["id"])

    def split(self) -> tuple[list[int], list[int]]:
        """Indices of the examples trained on and held out."""
        recipe = self.recipe()
        return self.dataset().split(recipe.eval_fraction, recipe.seed)

    def is_alive(self) -> bool:
        """Whether a worker holds this run now (by its lock, never by a bare process id)."""
        lock = self.lock()
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

    def lock(self) -> FileLock:
        """The lock a worker holds as long as it lives; the system frees it when the worker dies."""
        return FileLock(self.dir / LOCK)

    def request_stop(self) -> None:
        """Ask the worker to finish its step, save and end. Works from any process.

        An empty file: it can still be made on a full disk, where a stop is most wanted.
        """
        (self.dir / STOP).touch()

    def stop_requested(self) -> bool:
        return (self.dir / STOP).exists()

    def rename(self, name: str) -> None:
        """Change the label. Raises UserError when it is empty or too long."""
        text = " ".join(str(name).split())
        if not text or len(text) > MAX_NAME or "\0" in text:
            raise UserError(
                "This name cannot be used.", f"run {self.id}", f"Use 1 to {MAX_NAME} characters."
            )
        write_atomic(self.dir / NAME, text)

    def delete(self) -> None:
        """Delete the run and its checkpoints. Raises UserError while it runs or waits."""
        if self.state()["state"] in LIVE or self.is_alive():
            raise UserError("This run is not over.", self.name(), "Stop it first, then delete it.")
        trash = self.dir.with_name(f".trash-{self.id}")
        self.dir.rename(trash)
        shutil.rmtree(trash)
