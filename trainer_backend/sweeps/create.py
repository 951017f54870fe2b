"""Plans a sweep and queues its runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainer_backend.data.store import StoredDataset
from trainer_backend.errors import UserError
from trainer_backend.estimation import Range, estimate
from trainer_backend.estimation.words import duration_range
from trainer_backend.hardware import Hardware, hardware
from trainer_backend.models import check_known
from trainer_backend.recipe import Recipe, label, named, num_processes
from trainer_backend.recipe.resolve import resolve
from trainer_backend.runs import create_run
from trainer_backend.runs.run import MAX_NAME
from trainer_backend.sweeps.sweep import Planned, Sweep, keep_sweep
from trainer_backend.sweeps.tries import (
    OTHER_LOSS,
    OTHER_ROWS,
    Combination,
    Tries,
    check_tries,
    combinations,
    not_comparable,
)


@dataclass(frozen=True)
class Plan:
    """A sweep that has not been queued: its runs, how long they take, and what to know before.

    `seconds` is over all runs, in the order of the queue on this machine's devices; None if the
    time of one of them is not known. `too_large` are the runs that do not fit this machine.
    """

    tries: Tries
    runs: list[Combination]
    seconds: Range | None
    too_large: list[str]
    halving: bool
    notes: list[str]

    def sentence(self) -> str:
        """“6 runs, about 2 hours”."""
        if self.seconds is None:
            return f"{len(self.runs)} runs; how long they take is not known"
        likely = Range(self.seconds.likely, self.seconds.likely, self.seconds.likely)
        return f"{len(self.runs)} runs, about {duration_range(likely)}"


def plan_sweep(  # noqa: PLR0913 - one keyword a choice of the user
    home: Path,
    recipe: Recipe,
    dataset: StoredDataset | None,
    tries: Mapping[str, Sequence[Any]],
    *,
    halving: bool = False,
    machine: Hardware | None = None,
    where: str = "--try",
) -> Plan:
    """What a sweep would be. Raises UserError for values or settings that cannot be tried.

    With `halving` the evaluation losses must compare: the held-out rows and the tokens that count
    are those of all runs, and there is an evaluation before the end.
    """
    machine = machine or hardware()
    checked = check_tries(recipe, tries, where)
    runs, left_out = combinations(recipe, checked)
    for one in runs:
        check_known(home, one.recipe.base_model)
        resolve(one.recipe, machine)
        if halving:
            _check_halving(one.recipe, checked, where)
    found = [estimate(one.recipe, dataset, machine, home=home) for one in runs]
    too_large = [one.words() for one, its in zip(runs, found, strict=True) if its.fits is False]
    notes = [*_about(checked, left_out), *_about_memory(too_large)]
    at_once = max(1, machine.num_devices // num_processes(recipe, machine))
    seconds = _added([its.seconds for its in found], at_once)
    return Plan(checked, runs, seconds, too_large, halving, notes)


def create_sweep(
    home: Path,
    plan: Plan,
    dataset: StoredDataset,
    *,
    name: str | None = None,
    preset: str | None = None,
) -> Sweep:
    """Queue the runs of a plan, in its order. Raises UserError as `create_run` does.

    The sweep is written after each run: what a crash leaves is a sweep with the runs that it has.
    """
    title = " ".join((name or "").split()) or f"{label(*plan.tries)} on {dataset.name}"
    sweep = Sweep(title, dataset.id, plan.tries, halving=plan.halving, notes=plan.notes)
    for one in plan.runs:
        run_name = f"{one.words()} ({title if name else dataset.name})"
        if len(run_name) > MAX_NAME:
            run_name = one.words()[:MAX_NAME]
        run = create_run(
            home,
            one.recipe,
            dataset,
            name=run_name,
            preset=preset,
            key=f"{sweep.id}:{len(sweep.runs)}",
        )
        sweep = replace(sweep, runs=[*sweep.runs, Planned(run.id, one.values)])
        keep_sweep(home, sweep)
    return sweep


def _check_halving(recipe: Recipe, tries: Tries, where: str) -> None:
    if different := not_comparable(list(tries)):
        raise UserError(
            f"Runs that differ in {named(different)} cannot be stopped early: their evaluation "
            "losses do not compare.",
            where,
            "Leave out --halving, or try other settings.",
        )
    if recipe.eval_fraction <= 0 or recipe.eval_steps <= 0:
        raise UserError(
            "Runs can be stopped early only by evaluations before their end.",
            "--halving",
            f"Set {named(['eval_fraction', 'eval_steps'])} above 0.",
        )


def _about(tries: Tries, left_out: int) -> list[str]:
    """What to know about the comparison of these runs."""
    notes = []
    if left_out == 1:
        notes.append("1 combination is the same run as another and is left out.")
    elif left_out:
        notes.append(f"{left_out} combinations are the same run as another and are left out.")
    if rows := [name for name in tries if name in OTHER_ROWS]:
        notes.append(
            f"Runs that differ in {named(rows)} hold out different rows: "
            "a small difference of their scores means nothing."
        )
    if loss := [name for name in tries if name in OTHER_LOSS]:
        notes.append(
            f"Runs that differ in {named(loss)} have evaluation losses that do not compare: "
            "the best is marked by their answers alone."
        )
    return notes


def _about_memory(too_large: list[str]) -> list[str]:
    if not too_large:
        return []
    which = "; ".join(too_large[:3]) + (" …" if len(too_large) > 3 else "")
    runs = "1 run is" if len(too_large) == 1 else f"{len(too_large)} runs are"
    return [f"{runs} too large for this machine and may fail: {which}."]


def _added(parts: Sequence[Range | None], at_once: int) -> Range | None:
    known = [one for one in parts if one is not None]
    if len(known) < len(parts):
        return None
    low, likely, high = (
        sum(getattr(one, name) for one in known) / at_once for name in ("low", "likely", "high")
    )
    return Range(low, likely, high)
