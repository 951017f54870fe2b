"""Resuming a run: the checkpoint, the number of processes, the learning rate, the trial's result.

Which settings may change is not decided here.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainer_backend.errors import UserError
from trainer_backend.recipe import Recipe, label
from trainer_backend.runs import Damaged, Run, RunWriter, newest_intact, package_differences, purge
from trainer_backend.runs.files import CHECKPOINTS
from trainer_backend.training.distributed import any_process, first_decides
from trainer_backend.training.steps.long_rows import Way
from trainer_backend.worker.facts import RunFacts

LESS = ("checkpointing", "tiles", "offloading")  # of a Way, the cheapest first
SAME_MEMORY = 0.1  # by which the memory of a device may change before a step is tried again


@dataclass(frozen=True)
class Trial:
    """What was found out about memory by the largest step, and on which device.

    `memory_gb` is what the process could use in all, `less` what was switched on after memory had
    run out: fields of a Way.
    """

    device: str
    memory_gb: float
    part_tokens: int | None = None
    less: tuple[str, ...] = ()

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Trial | None":
        """That of an earlier attempt, as its run's state has it."""
        kept = state.get("trial")
        if not isinstance(kept, Mapping) or not {"device", "memory_gb"} <= kept.keys():
            return None
        less = tuple(str(one) for one in kept.get("less") or ())
        return cls(kept["device"], float(kept["memory_gb"]), state.get("part_tokens"), less)

    def facts(self) -> dict[str, Any]:
        """For the run's state."""
        whole = asdict(self)
        return {"part_tokens": whole.pop("part_tokens"), "trial": {**whole, "less": [*self.less]}}

    def holds_for(self, other: "Trial") -> bool:
        """Whether the other is on a device of the same name with about as much memory.

        What a CPU can use changes all the time, and matters only where it was too little.
        """
        if self.device != other.device:
            return False
        if self.device == "cpu" and self.part_tokens is None and not self.less:
            return True
        return abs(other.memory_gb - self.memory_gb) <= SAME_MEMORY * self.memory_gb

    def added_to(self, way: Way) -> Way:
        """The way with what this run needed before."""
        new = [one for one in self.less if not getattr(way, one)]
        if not new:
            return way
        names = {"checkpointing": label("gradient_checkpointing"), "tiles": "tiles"}
        names["offloading"] = label("activation_offloading")
        used = ", ".join(f"“{names[one]}”" for one in new)
        about = f"Memory ran out earlier in this run, so it goes on with {used}; same results."
        return Way(
            checkpointing=way.checkpointing or "checkpointing" in new,
            tiles=way.tiles or "tiles" in new,
            offloading=way.offloading or "offloading" in new,
            sentence=" ".join(filter(None, (way.sentence, about))),
        )


def settle_trial(state: Mapping[str, Any], here: Trial) -> tuple[Trial, bool]:
    """The earlier trial if it holds here on all processes, else `here`; and whether it holds."""
    earlier = Trial.of(state)
    if any_process(earlier is None or not earlier.holds_for(here)):
        return here, False
    assert earlier is not None
    return earlier, True


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
