"""How long a run takes, as a range: the model of time, corrected by earlier runs here."""

import math
from dataclasses import replace
from pathlib import Path

from trainer_backend.estimation.costs import Work, phase_seconds
from trainer_backend.estimation.device import Rates, machine_key, rates_in_words, rates_of
from trainer_backend.estimation.history import (
    Correction,
    Earlier,
    correction,
    earlier_runs,
    is_like,
)
from trainer_backend.estimation.plan import Plan
from trainer_backend.estimation.range import Range
from trainer_backend.estimation.shape import Shape
from trainer_backend.estimation.timing import Timing
from trainer_backend.hardware import Hardware
from trainer_backend.recipe import Recipe
from trainer_backend.recipe.resolve import best_precision, num_processes

MEASURED, TYPICAL = 0.35, 0.7  # spread (of a logarithm) of the model of time by itself
WIDTH = 1.3  # of the range, in spreads: four of five runs are within it
BF16_PAYS = 1.3  # times the fp32 rate, as the worker decides on a CPU


def seconds_of(
    shape: Shape,
    plan: Plan,
    recipe: Recipe,
    machine: Hardware,
    home: Path | None = None,
    *,
    history: bool = True,
    without: str | None = None,
) -> tuple[Range, str]:
    """Seconds of a run from its start to its end, and a sentence that says what they rest on.

    A download is not counted. `recipe` may still have “auto”. Runs of `home` on this machine
    correct the model of time unless `history` is off; `without` is the id of a run left out.
    """
    phases, based_on = phases_of(
        shape, plan, recipe, machine, home, history=history, without=without
    )
    likely = sum(seconds for seconds, _ in phases.values())
    # phases are off together: a slower machine slows all of them
    spread = sum(seconds * one.spread for seconds, one in phases.values()) / max(likely, 1e-9)
    wide = math.exp(WIDTH * spread)
    return Range(likely / wide, likely, likely * wide), based_on


def phases_of(
    shape: Shape,
    plan: Plan,
    recipe: Recipe,
    machine: Hardware,
    home: Path | None = None,
    *,
    history: bool = True,
    without: str | None = None,
) -> tuple[dict[str, tuple[float, Correction]], str]:
    """Seconds of each phase with its correction, and what they rest on."""
    rates = rates_of(machine, home)
    recipe = settled(recipe, machine, rates)

    def work_of(its_shape: Shape, its_recipe: Recipe) -> Work:
        devices = num_processes(its_recipe, machine) if machine.kind == "cuda" else 1
        return Work(its_shape, its_recipe, rates, machine.kind, devices)

    def modelled(timing: Timing, its_recipe: Recipe) -> dict[str, float]:
        return phase_seconds(work_of(timing.shape, its_recipe), timing.plan)

    past = home if history else None
    runs = earlier_runs(past, machine_key(machine), modelled, without)
    unsure = MEASURED if rates.measured else TYPICAL
    phases = {}
    for phase, seconds in phase_seconds(work_of(shape, recipe), plan).items():
        found = correction(phase, runs, shape, plan, recipe, unsure)
        phases[phase] = (seconds * found.factor, found)
    return phases, in_words(runs, shape, recipe, rates, machine.kind)


def settled(recipe: Recipe, machine: Hardware, rates: Rates) -> Recipe:
    """The recipe with the number format that the worker will choose for “auto”."""
    precision = recipe.precision
    if recipe.adapter == "qlora" and precision not in ("int4", "int8"):
        return replace(recipe, precision="int4")
    if precision == "auto":
        precision = best_precision(machine)
        slow = rates.measured and rates.bf16 < BF16_PAYS * rates.fp32
        if machine.kind == "cpu" and precision == "bf16" and slow:
            precision = "fp32"
    return replace(recipe, precision=precision)


def in_words(runs: list[Earlier], shape: Shape, recipe: Recipe, rates: Rates, kind: str) -> str:
    """What an estimate of time rests on, as part of a sentence."""
    if not runs:
        computes_in = Work(shape, recipe, rates, kind).computes_in
        return f"{rates_in_words(rates, computes_in)}; no earlier run yet"
    alike = sum(is_like(one, recipe) for one in runs)
    number = f"{len(runs)} earlier run{'s' if len(runs) > 1 else ''} on this machine"
    if len(runs) == alike:
        same = "with this model and method"
        return f"{number}, {same}" if alike == 1 else f"{number}, all {same}"
    if alike == 0:
        return f"{number}, none of them with this model and method"
    return f"{number}, {alike} of them with this model and method"
