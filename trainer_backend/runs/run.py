"""A run as seen by everyone but its worker: reading its folder, its lock, a stop, its name.

What a worker writes while it trains is not here.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from trainer_backend.data.store import StoredDataset, open_dataset
from trainer_backend.errors import UserError
from trainer_backend.home import read_json, write_atomic, write_json
from trainer_backend.recipe import Recipe, save_recipe
from trainer_backend.runs.checkpoints import Checkpoint, committed
from trainer_backend.runs.events import curve_rows, read_events
from trainer_backend.runs.files import (
    CHANGES,
    CHECKPOINTS,
    LOCK,
    NAME,
    RECIPE,
    STALLED,
    STOP,
    WORKER,
)
from trainer_backend.runs.notes import Notes, read_notes
from trainer_backend.runs.spec import check_changes, damaged_file
from trainer_backend.runs.state import ACTIVE, LIVE, STATE_KEYS, remembered_spec, remembered_state
from trainer_backend.runs.watched.worker_log import log_tail

MAX_NAME = 120


@dataclass(frozen=True)
class Run:
    """A training run, identified by its folder. Reads the disk at every call."""

    dir: Path

    @property
    def id(self) -> str:
        return self.dir.name

    @property
    def home(self) -> Path:
        return self.dir.parent.parent

    def spec(self) -> dict[str, Any]:
        """Settings, dataset, base model and machine at the start. Raises UserError if damaged."""
        return remembered_spec(self.dir)

    def settings(self) -> dict[str, Any]:
        """The recipe as plain data, with the changes made at a resume."""
        changes = [one["changes"] for one in self.recipe_changes()]
        return {key: v for part in (self.spec()["recipe"], *changes) for key, v in part.items()}

    def recipe(self) -> Recipe:
        return Recipe.from_dict(self.settings(), f"run {self.id}")

    def recipe_changes(self) -> list[dict[str, Any]]:
        """Changes of settings after the start, oldest first: {"t", "changes", "why"}.

        Raises UserError if they cannot be read: the run would continue with the wrong settings.
        """
        path = self.dir / CHANGES
        try:
            found: Any = read_json(path) or []
            if all(isinstance(one["changes"], dict) for one in found):
                return list(found)
            raise ValueError("not a list of changes")
        except (ValueError, TypeError, KeyError, OSError) as error:
            raise damaged_file("The settings changed at a resume", path, error) from None

    def change_recipe(self, changes: dict[str, Any], why: str) -> Recipe:
        """Change settings of a run that is not active. Raises UserError for a locked one."""
        before = self.recipe()
        after = Recipe.from_dict({**before.to_dict(), **changes}, "Resume")
        if real := check_changes(before, after):
            entry = {"t": time.time(), "changes": real, "why": why}
            write_json(self.dir / CHANGES, [*self.recipe_changes(), entry])
        # even without a change: a crash may have left recipe.yaml behind changes.json
        save_recipe(after, self.dir / RECIPE)
        return after

    def name(self) -> str:
        try:
            return (self.dir / NAME).read_text(encoding="utf-8", errors="replace") or self.id
        except OSError:
            return self.id

    def state(self) -> dict[str, Any]:
        """The state of the run and its facts (step, losses, error …), as last written."""
        return remembered_state(self.dir)

    def summary(self) -> dict[str, Any]:
        """The run as one flat object, as `show --json` prints it; missing facts are None."""
        spec, state, recipe, notes = self.spec(), self.state(), self.settings(), self.notes()
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
            "notes": notes.text,
            "tags": list(notes.tags),
            "dir": str(self.dir),
        }
        empty: dict[str, Any] = dict.fromkeys(STATE_KEYS)
        return {**empty, "step": 0, "total_steps": 0, "warnings": [], **facts, **state}

    def notes(self) -> Notes:
        """What a person wrote about the run."""
        return read_notes(self.dir)

    def stalled(self) -> dict[str, Any] | None:
        """{"phase", "seconds", "limit", "frozen"} while the worker makes no progress, else None."""
        found: Any = read_json(self.dir / STALLED, {})
        return found or None

    def worker(self) -> dict[str, Any]:
        """Process identity and devices of the last worker; {} if none was started."""
        found: Any = read_json(self.dir / WORKER, {})
        return found

    def events(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """The events after a byte offset, and the offset for the next call."""
        return read_events(self.dir, offset)

    def metrics(self, since: int = 0) -> list[dict[str, Any]]:
        """Rows of the training and evaluation curves, without the first `since` rows.

        A step repeated after a resume is listed once, with its last values.
        """
        return curve_rows(self.events()[0])[since:]

    def log_tail(self, lines: int = 200) -> str:
        """The last lines the worker printed, without secrets."""
        return log_tail(self.dir, lines)

    def checkpoints(self) -> list[Checkpoint]:
        """Committed checkpoints, oldest first."""
        return committed(self.dir / CHECKPOINTS)

    def result(self) -> Checkpoint | None:
        """The newest checkpoint, or the best one if the recipe asks for it; None without any."""
        kept = self.checkpoints()
        step = self.state().get("result_step")
        newest = kept[-1] if kept else None
        return next((one for one in kept if one.step == step), newest)

    def dataset(self) -> StoredDataset:
        return open_dataset(self.home, self.spec()["dataset"]["id"])

    def split(self) -> tuple[list[int], list[int]]:
        """Indices of the training examples and of the held-out ones."""
        recipe = self.recipe()
        return self.dataset().split(recipe.eval_fraction, recipe.seed)

    def is_alive(self) -> bool:
        """Whether a worker holds the lock of this run now (a process id alone proves nothing)."""
        lock = self.lock()
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

    def lock(self) -> FileLock:
        """The lock that a worker holds; the operating system releases it when the process ends."""
        return FileLock(self.dir / LOCK)

    def request_stop(self) -> None:
        """Ask the worker to finish its step, save and exit; any process may call this.

        The mark is an empty file, which can be created even on a full disk.
        """
        (self.dir / STOP).touch()

    def stop_requested(self) -> bool:
        return (self.dir / STOP).exists()

    def stopping_seconds(self) -> float | None:
        """Seconds since a stop was requested; None if none was, or it has been heard."""
        try:
            return max(0.0, time.time() - (self.dir / STOP).stat().st_mtime)
        except FileNotFoundError:
            return None

    def rename(self, name: str) -> None:
        """Change the run's name. Raises UserError if it is empty or too long."""
        text = " ".join(str(name).split())
        if not text or len(text) > MAX_NAME or "\0" in text:
            raise UserError(
                "This name cannot be used.", self.name(), f"Use 1 to {MAX_NAME} characters."
            )
        write_atomic(self.dir / NAME, text)

    def delete(self) -> None:
        """Delete the run and its checkpoints. Raises UserError while it is queued or active."""
        if self.state()["state"] in LIVE or self.is_alive():
            raise UserError(
                "This run has not ended.", self.name(), "Stop it first, then delete it."
            )
        trash = self.dir.with_name(f".trash-{self.id}")
        self.dir.rename(trash)
        shutil.rmtree(trash)
