"""Resolves what to load for chat and export: a run's checkpoint, or a base model alone.

Paths and names only, without torch; nothing is loaded here.
"""

from dataclasses import dataclass
from pathlib import Path

from trainer_backend.errors import UserError
from trainer_backend.hardware import hardware
from trainer_backend.recipe.resolve import resolve
from trainer_backend.runs.create import open_run
from trainer_backend.runs.files import SPEC
from trainer_backend.runs.run import Run


@dataclass(frozen=True)
class Target:
    """A run's checkpoint, or a base model without one."""

    base_model: str
    precision: str
    checkpoint: Path | None = None
    revision: str | None = None  # the base model's commit on the Hub, as pinned by the run

    @property
    def has_adapter(self) -> bool:
        return self.checkpoint is not None and (self.checkpoint / "adapter_config.json").exists()


def find_target(home: Path, run_or_model: str, checkpoint: int | None = None) -> Target:
    """The target of a run id, a run's folder or a model id. Raises UserError for an unknown run."""
    folder = Path(str(run_or_model)).expanduser()
    if run_or_model.startswith("run-"):
        run = open_run(home, run_or_model)
    elif (folder / SPEC).exists():
        run = Run(folder.resolve())
    else:
        return Target(run_or_model, "fp32" if hardware().kind == "cpu" else "bf16")
    return run_target(run, checkpoint)


def run_target(run: Run, step: int | None = None) -> Target:
    """A run's checkpoint of a step, or its result. Raises UserError if there is none."""
    kept = run.checkpoints()
    chosen = run.result() if step is None else next((c for c in kept if c.step == step), None)
    if chosen is None:
        what = f"There is no checkpoint {step}." if kept else "This run has no checkpoint yet."
        raise UserError(what, run.name(), "Wait for the first checkpoint, or choose another run.")
    recipe = run.recipe()
    precision = run.state().get("precision") or resolve(recipe, hardware())[0].precision
    revision = run.spec()["base"]["revision"]
    return Target(recipe.base_model, precision, chosen.path, revision)
