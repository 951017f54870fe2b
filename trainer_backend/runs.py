"""A run is a folder: create, list, read, rename, delete.

The worker's writing side is run_writer.py.

runs/<id>/{spec.json, recipe.yaml, name.txt, state.json, events.jsonl, worker.log, checkpoints/}
"""

import json
import shutil
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock, Timeout

from .checkpoints import Checkpoint, committed
from .data.store import StoredDataset, open_dataset
from .errors import UserError
from .hardware import hardware
from .home import check_id, new_id, read_json, write_atomic, write_json
from .model_source import locate_model
from .recipe import Recipe, save_recipe
from .resolve import resolve

FORMAT_VERSION = 1
ACTIVE = ("preparing", "running", "saving")
RESUMABLE = ("paused", "stopped", "failed")
PACKAGES = ("torch", "transformers", "peft", "datasets", "accelerate", "bitsandbytes")
MAX_NAME = 120


def create_run(
    home: Path,
    recipe: Recipe,
    dataset: StoredDataset,
    *,
    name: str | None = None,
    preset: str | None = None,
    key: str | None = None,
    foreground: bool = False,
) -> "Run":
    """Make the folder of a new run, in state “queued”. The same key twice gives the same run.

    With `foreground` the caller starts the worker itself and no scheduler may take the run.

    Raises UserError when the dataset has nothing to train on, the model cannot be meant, or the
    recipe is impossible on this machine: what can be known now does not wait for the worker.
    """
    _check_dataset(dataset)
    locate_model(home, recipe.base_model)
    resolve(recipe, hardware())
    with FileLock(home / "runs" / ".create.lock"):
        if key and (same := _run_with_key(home, key)):
            return same
        run = Run(home / "runs" / new_id("run"))
        (run.dir / "checkpoints").mkdir(parents=True)
        write_json(run.dir / "spec.json", _spec(run, recipe, dataset, preset, key))
        save_recipe(recipe, run.dir / "recipe.yaml")
        run.rename(name or f"{recipe.base_model.rstrip('/').rpartition('/')[2]} on {dataset.name}")
        now, state = time.time(), "preparing" if foreground else "queued"
        facts = {"state": state, "queued_at": now, "updated_at": now, "attempt": 0}
        write_json(run.dir / "state.json", facts)
    return run


def _check_dataset(dataset: StoredDataset) -> None:
    if dataset.num_examples == 0:
        first = next((p for p in dataset.problems if p.severity == "error"), None)
        raise UserError(
            first.what if first else "The data has no row to train on.",
            first.where if first else dataset.name,
            first.fix if first else "Upload rows with a prompt and a response.",
        )


def _run_with_key(home: Path, key: str) -> "Run | None":
    return next((run for run in list_runs(home) if run.spec().get("key") == key), None)


def _spec(run: "Run", recipe: Recipe, dataset: StoredDataset, preset, key) -> dict:
    machine = hardware()
    return {
        "format_version": FORMAT_VERSION,
        "id": run.id,
        "key": key,
        "created_at": time.time(),
        "preset": preset,
        "recipe": recipe.to_dict(),
        "dataset": {"id": dataset.id, "name": dataset.name, "num_examples": dataset.num_examples},
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "hardware": machine.label(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def list_runs(home: Path) -> list["Run"]:
    """All runs, newest first. Folders that are being made or deleted are left out."""
    runs = [Run(path) for path in (home / "runs").glob("run-*") if (path / "state.json").exists()]
    return sorted(runs, key=lambda run: (run.spec()["created_at"], run.id), reverse=True)


def open_run(home: Path, run_id: str) -> "Run":
    """The run with this id. Raises UserError if there is none."""
    run = Run(home / "runs" / check_id(run_id, "run"))
    if not (run.dir / "state.json").exists():
        raise UserError("There is no such run.", f"run {run.id}", "Choose a run from the list.")
    return run


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
        """What was asked for; never changes after the run was created."""
        return read_json(self.dir / "spec.json")

    def recipe(self) -> Recipe:
        return Recipe.from_dict(self.spec()["recipe"], f"run {self.id}")

    def name(self) -> str:
        try:
            return (self.dir / "name.txt").read_text(encoding="utf-8")
        except FileNotFoundError:
            return self.id

    def state(self) -> dict:
        """Where the run stands: the last state the worker (or, after it, the scheduler) wrote."""
        return read_json(self.dir / "state.json")

    def summary(self) -> dict:
        """The run in one flat object: what `show --json` prints and the Runs tab lists."""
        spec, state = self.spec(), self.state()
        recipe = spec["recipe"]
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
            "dir": str(self.dir),
        }
        empty = dict.fromkeys(STATE_KEYS)
        return {**empty, "step": 0, "total_steps": 0, "warnings": [], **facts, **state}

    def events(self, offset: int = 0) -> tuple[list[dict], int]:
        """Events from a byte offset on, and the offset to ask from next. A torn last line waits."""
        try:
            with open(self.dir / "events.jsonl", "rb") as file:
                file.seek(offset)
                data = file.read()
        except FileNotFoundError:
            return [], 0
        whole = data[: data.rfind(b"\n") + 1]
        return [event for line in whole.splitlines() if (event := _event(line))], offset + len(
            whole
        )

    def metrics(self, since: int = 0) -> list[dict]:
        """Rows of the curves (training and evaluation) after the first `since` rows.

        Steps that were done again after a resume are listed once, as done the last time.
        """
        rows: list[dict] = []
        for event in self.events()[0]:
            if event["type"] == "resumed":
                rows = [row for row in rows if row["step"] <= event["step"]]
            elif event["type"] in ("metrics", "eval"):
                rows.append(event)
        return rows[since:]

    def log_tail(self, lines: int = 200) -> str:
        """The last lines the worker printed."""
        try:
            with open(self.dir / "worker.log", "rb") as file:
                file.seek(0, 2)
                file.seek(max(0, file.tell() - 64_000))
                text = file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""
        return "\n".join(line.rpartition("\r")[2] for line in text.splitlines()[-lines:])

    def checkpoints(self) -> list[Checkpoint]:
        """Committed checkpoints, oldest first."""
        return committed(self.dir / "checkpoints")

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
        return FileLock(self.dir / "run.lock")

    def request_stop(self) -> None:
        """Ask the worker to finish its step, save and end. Works from any process."""
        write_atomic(self.dir / "stop", str(time.time()))

    def stop_requested(self) -> bool:
        return (self.dir / "stop").exists()

    def rename(self, name: str) -> None:
        """Change the label. Raises UserError when it is empty or too long."""
        text = " ".join(str(name).split())
        if not text or len(text) > MAX_NAME or "\0" in text:
            raise UserError(
                "This name cannot be used.", f"run {self.id}", f"Use 1 to {MAX_NAME} characters."
            )
        write_atomic(self.dir / "name.txt", text)

    def delete(self) -> None:
        """Delete the run and its checkpoints. Raises UserError while it runs or waits."""
        if self.state()["state"] in (*ACTIVE, "queued") or self.is_alive():
            raise UserError("This run is not over.", self.name(), "Stop it first, then delete it.")
        trash = self.dir.with_name(f".trash-{self.id}")
        self.dir.rename(trash)
        shutil.rmtree(trash)


STATE_KEYS = (
    *("epoch", "loss", "eval_loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_gb"),
    *(
        "num_tokens",
        "eta_seconds",
        "elapsed_seconds",
        "progress",
        "started_at",
        "ended_at",
        "error",
    ),
    *("answers", "precision", "mean_token_accuracy", "num_train_rows", "num_eval_rows"),
)


def _event(line: bytes) -> dict | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "type" in event else None
