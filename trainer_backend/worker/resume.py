"""Resuming a run: from which checkpoint, with how many processes, at which learning rate.

Which settings may change is not decided here.
"""

from dataclasses import replace

from transformers import TrainerCallback

from trainer_backend.errors import UserError
from trainer_backend.recipe import Recipe
from trainer_backend.runs import Damaged, Run, RunWriter, newest_intact, package_differences, purge
from trainer_backend.runs.files import CHECKPOINTS
from trainer_backend.training.distributed import first_decides
from trainer_backend.worker.facts import RunFacts


def resume_from(facts: RunFacts, writer: RunWriter) -> str | None:
    """The folder of the checkpoint to go on from; None at the beginning.

    Damaged ones are set aside and named. Raises UserError when there were some and none is whole.
    """
    run = facts.run
    checkpoint, set_aside = first_decides(lambda: newest_intact(run.dir / CHECKPOINTS))
    for one in set_aside:
        writer.warn(f"{one.name} was damaged and is set aside: {one.why}.")
    if checkpoint is None and _had_one(run):
        raise _nothing_intact(run, set_aside)
    if writer.enabled:
        purge(run.dir / CHECKPOINTS)
    if checkpoint:
        _warn_of_packages(facts.spec, writer)
    changes = {name: v for one in run.recipe_changes() for name, v in one["changes"].items()}
    step = checkpoint.step if checkpoint else 0
    writer.event("resumed", step=step, **({"changes": changes} if changes else {}))
    return str(checkpoint.path) if checkpoint else None


def same_examples_a_step(run: Run, recipe: Recipe, processes: int, writer: RunWriter) -> Recipe:
    """The recipe for another number of processes than the run began with: same steps, same data.

    More or fewer batches are added up before a weight update instead. Raises UserError when that
    does not come out even.
    """
    began = run.state().get("num_processes") or processes
    writer.update(num_processes=began)
    if began == processes:
        return recipe
    batches = began * recipe.gradient_accumulation_steps
    if batches % processes:
        raise UserError(
            f"This run began with {began} training processes and cannot go on with {processes}.",
            f"run {run.name()}, {batches} batches before each weight update",
            "Resume it where there are as many devices, or start a new run from these weights.",
            code="settings_locked",
        )
    steps = batches // processes
    writer.warn(
        f"{processes} training processes instead of {began}: each adds up {steps} batches before a "
        "weight update, so that the steps stay the same (random dropout does not)."
    )
    return replace(recipe, gradient_accumulation_steps=steps)


def _had_one(run: Run) -> bool:
    """Whether a checkpoint was ever completed: a crash in the first save loses none."""
    return any(event["type"] == "checkpoint" for event in run.events()[0])


def _warn_of_packages(spec: dict, writer: RunWriter) -> None:
    if different := package_differences(spec["packages"]):
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


class CourseOfNow(TrainerCallback):
    """Recomputes the learning rate from the current schedule on resume.

    A checkpoint holds the rate of the old schedule: of a run that ended it is 0, and the first step
    of a run made longer would teach nothing. An unchanged schedule gives what it was.
    """

    def on_train_begin(self, args, state, control, optimizer=None, lr_scheduler=None, **kwargs):
        course = getattr(lr_scheduler, "scheduler", lr_scheduler)  # accelerate wraps it
        rates = [
            base * factor(course.last_epoch)
            for base, factor in zip(course.base_lrs, course.lr_lambdas, strict=True)
        ]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
