"""What earlier runs on a machine say about the model of time: measured against modelled seconds.

Runs are read from their folders; damaged ones, other machines and older versions count for
nothing. How seconds are modelled is not known here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from trainer_backend.errors import UserError
from trainer_backend.estimation.plan import Plan
from trainer_backend.estimation.shape import Shape
from trainer_backend.estimation.timing import Timing, read_timing
from trainer_backend.recipe import Recipe
from trainer_backend.runs.files import TIMING

MOST = 300  # newest runs that are read
PRIOR = 0.1  # weight of the model of time itself, against 1 of a run like the one asked about
NEAR = 0.5  # least weight of a run that is like it
UNSURE, TRUSTED = 0.45, 0.1  # spread (of a logarithm) without any run, and with many alike
LEAST_S = 0.2  # shorter phases say nothing
FARTHEST = math.log(20.0)  # no machine is so far from the model of time: the run was disturbed
OUTLIER = 0.6  # distance from the median (of a logarithm) that is cut off

Modelled = Callable[[Timing, Recipe], dict[str, float]]


@dataclass(frozen=True)
class Earlier:
    """An earlier run, with the logarithm of measured / modelled seconds of each phase."""

    shape: Shape
    plan: Plan
    recipe: Recipe
    ratios: dict[str, float]


@dataclass(frozen=True)
class Correction:
    """Factor of a phase's modelled seconds, and the spread (of its logarithm) that remains."""

    factor: float
    spread: float


def earlier_runs(
    home: Path | None, machine: str, modelled: Modelled, without: str | None = None
) -> list[Earlier]:
    """The runs of a home that were measured on a machine, newest first, but that of one id."""
    if home is None:
        return []
    paths = (path for path in _newest(home / "runs") if path.parent.name != without)
    found = (_timing_of(path) for path in paths)
    runs = (_compared(one, modelled) for one in found if one and one.machine == machine)
    return [one for one in runs if one and one.ratios]


def _newest(folder: Path) -> list[Path]:
    """The timing files of the newest runs."""
    dated = []
    for path in folder.glob(f"*/{TIMING}"):
        try:
            dated.append((path.stat().st_mtime_ns, path))
        except OSError:  # deleted meanwhile
            continue
    return [path for _, path in sorted(dated, reverse=True)[:MOST]]


def _timing_of(path: Path) -> Timing | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _kept(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=2 * MOST)
def _kept(path: Path, changed: int, size: int) -> Timing | None:
    return read_timing(path.parent)


def _compared(timing: Timing, modelled: Modelled) -> Earlier | None:
    """The ratios of a run; None if its settings or sizes cannot be priced."""
    try:
        recipe = Recipe.from_dict(timing.recipe, "timing")
        expected = modelled(timing, recipe)
    except (UserError, ArithmeticError, ValueError, KeyError):
        return None
    ratios = {}
    for phase, seconds in timing.seconds.items():
        likely = expected.get(phase, 0.0)
        if math.isfinite(seconds) and seconds >= LEAST_S and likely >= LEAST_S / 10:
            apart = math.log(seconds / likely)
            if abs(apart) < FARTHEST:
                ratios[phase] = apart
    return Earlier(timing.shape, timing.plan, recipe, ratios)


def likeness(one: Earlier, shape: Shape, plan: Plan, recipe: Recipe) -> float:
    """How much an earlier run says about another one: 1 for the same work, towards 0 for others."""
    distance = abs(_log_ratio(one.shape.parameters, shape.parameters)) / 2
    distance += 0.3 * (_sizes(one.shape) != _sizes(shape))
    distance += 0.7 * (one.recipe.adapter != recipe.adapter)
    distance += 0.7 * (one.recipe.precision != recipe.precision)
    distance += 0.4 * (one.recipe.gradient_checkpointing != recipe.gradient_checkpointing)
    distance += 0.3 * (one.recipe.packing != recipe.packing)
    distance += abs(_log_ratio(one.plan.row_tokens, plan.row_tokens)) / 4
    parts = (run.step_tokens / max(1, run.micro_batches) for run in (one.plan, plan))
    distance += abs(_log_ratio(*parts)) / 3
    return math.exp(-(distance**1.5) * 1.5)


def _sizes(shape: Shape) -> tuple[int, ...]:
    """What makes two models alike, whoever counted their parameters."""
    return shape.layers, shape.hidden, shape.intermediate, shape.vocabulary


def is_like(one: Earlier, recipe: Recipe) -> bool:
    """Whether an earlier run trained this model with this method."""
    same = one.recipe.base_model == recipe.base_model
    return same and one.recipe.adapter == recipe.adapter


def _log_ratio(one: float, other: float) -> float:
    return math.log(max(one, 1.0) / max(other, 1.0))


def correction(
    phase: str, runs: Sequence[Earlier], shape: Shape, plan: Plan, recipe: Recipe, unsure: float
) -> Correction:
    """What the runs say about a phase; `unsure` is the spread of the model of time by itself."""
    seen = [
        (one.ratios[phase], likeness(one, shape, plan, recipe))
        for one in runs
        if phase in one.ratios
    ]
    if not seen:
        return Correction(1.0, unsure)
    middle = weighted_median(seen)
    near = [(min(max(v, middle - OUTLIER), middle + OUTLIER), weight) for v, weight in seen]
    total = sum(weight for _, weight in near)
    mean = sum(value * weight for value, weight in near) / total
    variance = sum(weight * (value - mean) ** 2 for value, weight in near) / total
    trust = total / (total + PRIOR)
    spread = math.sqrt(variance + TRUSTED**2 + (unsure * (1 - trust)) ** 2)
    return Correction(math.exp(trust * mean), spread)


def weighted_median(seen: Sequence[tuple[float, float]]) -> float:
    """The value in the middle of (value, weight) pairs."""
    half, passed = sum(weight for _, weight in seen) / 2, 0.0
    ordered = sorted(seen)
    for value, weight in ordered:
        passed += weight
        if passed >= half:
            return value
    return ordered[-1][0]
