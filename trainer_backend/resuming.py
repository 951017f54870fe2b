"""Where a run goes on from: its newest intact checkpoint, and what is said about it.

Which settings may change at a resume is run_spec.py.
"""

from .agree import first_decides
from .checkpoints import Checkpoint, Damaged, newest_intact, purge
from .errors import UserError
from .run_folder import Run
from .run_spec import package_differences
from .run_writer import RunWriter


def resume_from(run: Run, writer: RunWriter) -> str | None:
    """The folder of the checkpoint to go on from; None at the beginning.

    Damaged ones are set aside and named. Raises UserError when there were some and none is whole.
    """
    checkpoint, set_aside = first_decides(lambda: newest_intact(run.dir / "checkpoints"))
    for one in set_aside:
        writer.warn(f"{one.name} was damaged and is set aside: {one.why}.")
    if checkpoint is None and _had_one(run):
        raise _nothing_intact(run, set_aside)
    if writer.enabled:
        purge(run.dir / "checkpoints")
    if checkpoint:
        _warn_of_packages(run, writer)
    changes = {name: v for one in run.recipe_changes() for name, v in one["changes"].items()}
    step = checkpoint.step if checkpoint else 0
    writer.event("resumed", step=step, **({"changes": changes} if changes else {}))
    return _path(checkpoint)


def _path(checkpoint: Checkpoint | None) -> str | None:
    return str(checkpoint.path) if checkpoint else None


def _had_one(run: Run) -> bool:
    """Whether a checkpoint was ever completed: a crash in the first save loses none."""
    return any(event["type"] == "checkpoint" for event in run.events()[0])


def _warn_of_packages(run: Run, writer: RunWriter) -> None:
    if different := package_differences(run.spec()["packages"]):
        words = "; ".join(different)
        writer.warn(f"Other packages than at the start ({words}): the result may differ slightly.")


def _nothing_intact(run: Run, set_aside: list[Damaged]) -> UserError:
    why = "; ".join(f"{one.name}: {one.why}" for one in set_aside) or "all of them are gone"
    return UserError(
        "No checkpoint of this run is intact.",
        f"run {run.name()} ({why})",
        "Start again from the base model with the same settings.",
        code="checkpoints_bad",
        offer={"retry": {}},
    )
