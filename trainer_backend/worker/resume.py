"""Resuming a run: the checkpoint, the number of processes, the learning rate.

Which settings may change is not decided here.
"""

from dataclasses import replace
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainer_backend.errors import UserError
from trainer_backend.recipe import Recipe
from trainer_backend.runs import Damaged, Run, RunWriter, newest_intact, package_differences, purge
from trainer_backend.runs.files import CHECKPOINTS
from trainer_backend.training.distributed import first_decides
from trainer_backend.worker.facts import RunFacts


def resume_from(facts: RunFacts, writer: RunWriter) -> str | None:
    """The folder of the newest intact checkpoint; None if none was ever completed.

    Warns about damaged ones. Raises UserError if there were checkpoints and none is intact.
    """
    run = facts.run
    checkpoint, set_aside = first_decides(lambda: newest_intact(run.dir / CHECKPOINTS))
    for one in set_aside:
        writer.warn(f"{one.name} is damaged and was set aside: {one.why}.")
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
    """The recipe for another number of processes than at the start: same steps, same data.

    Gradient accumulation is adjusted. Raises UserError if that is impossible.
    """
    began = run.state().get("num_processes") or processes
    writer.update(num_processes=began)
    if began == processes:
        return recipe
    batches = began * recipe.gradient_accumulation_steps
    if batches % processes:
        raise UserError(
            f"This run started with {began} training processes, {processes} cannot continue it.",
            f"run {run.name()}, {batches} batches before each weight update",
            "Resume it with as many devices, or start a new run from these weights.",
            code="settings_locked",
        )
    steps = batches // processes
    writer.warn(
        f"{processes} training processes instead of {began}: gradient accumulation is now {steps}, "
        "so that each step has the same examples (random dropout differs)."
    )
    return replace(recipe, gradient_accumulation_steps=steps)


def _had_one(run: Run) -> bool:
    """Whether a checkpoint was ever completed."""
    return any(event["type"] == "checkpoint" for event in run.events()[0])


def _warn_of_packages(spec: dict[str, Any], writer: RunWriter) -> None:
    if different := package_differences(spec["packages"]):
        words = "; ".join(different)
        writer.warn(f"Package versions have changed ({words}): the result may differ slightly.")


def _nothing_intact(run: Run, set_aside: list[Damaged]) -> UserError:
    why = "; ".join(f"{one.name}: {one.why}" for one in set_aside) or "all of them are missing"
    return UserError(
        "No checkpoint of this run is intact.",
        f"run {run.name()} ({why})",
        "Start again from the base model with the same settings.",
        code="checkpoints_bad",
        offer={"retry": {}},
    )


class CurrentSchedule(TrainerCallback):
    """Recomputes the learning rate from the current schedule on resume.

    A checkpoint holds the rate of the old schedule, which is 0 at the end of a run: the first step
    of an extended run would change nothing.
    """

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: Optimizer | None = None,
        lr_scheduler: Any = None,
        **kwargs: Any,
    ) -> None:
        assert optimizer is not None
        schedule: LambdaLR = getattr(lr_scheduler, "scheduler", lr_scheduler)  # accelerate wraps it
        rates = [
            base * factor(schedule.last_epoch)
            for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
        ]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
