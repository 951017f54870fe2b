"""Which model answers for a run: a checkpoint on its base model, or a base model alone.

Paths and names only, without torch; loading happens elsewhere.
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
    """What to talk to: a run's checkpoint, or a plain base model (no checkpoint)."""

    base_model: str
    precision: str
    checkpoint: Path | None = None
    revision: str | None = None  # the commit of the Hub the run began with

    @property
    def has_adapter(self) -> bool:
        return self.checkpoint is not None and (self.checkpoint / "adapter_config.json").exists()


def find_target(home: Path, run_or_model: str, checkpoint: int | None = None) -> Target:
    """RUN of chat: a run id, a run's folder, or a model id. Raises UserError."""
    folder = Path(str(run_or_model)).expanduser()
    if run_or_model.startswith("run-"):
        run = open_run(home, run_or_model)
    elif (folder / SPEC).exists():
        run = Run(folder.resolve())
    else:
        return Target(run_or_model, "fp32" if hardware().kind == "cpu" else "bf16")
    return run_target(run, checkpoint)


def run_target(run: Run, step: int | None = None) -> Target:
    """A run's checkpoint (its result without a step). Raises UserError when there is none."""
    kept = run.checkpoints()
    chosen = [one for one in kept if one.step == step] if step is not None else [run.result()]
    if not kept or not chosen:
        what = "This run has no checkpoint yet." if not kept else f"There is no checkpoint {step}."
        raise UserError(what, run.name(), "Wait for the first checkpoint, or choose another run.")
    recipe = run.recipe()
    precision = run.state().get("precision") or resolve(recipe, hardware())[0].precision
    revision = run.spec()["base"]["revision"]
    return Target(recipe.base_model, precision, chosen[-1].path, revision)
