"""The command sweep: queue runs that try several values, and list what they achieved.

Only choosing and printing happens here.
"""

import argparse
import json
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from trainer_backend.cli.data import chosen_settings, read_dataset
from trainer_backend.data.store import StoredDataset
from trainer_backend.errors import UserError
from trainer_backend.evaluation.measures import MEASURE_LABELS
from trainer_backend.recipe import Recipe, resolve_recipe, samples
from trainer_backend.sweeps import (
    Standing,
    create_sweep,
    list_sweeps,
    open_sweep,
    parse_tries,
    plan_sweep,
    standing,
)

OVERVIEW = "list"  # in place of a recipe


def do_sweep(home: Path, arguments: argparse.Namespace) -> int:
    """Queue the runs of a sweep, or show one or all."""
    asked = arguments.recipe
    if not arguments.tries and (asked == OVERVIEW or asked.startswith("sweep-")):
        kept = list_sweeps(home) if asked == OVERVIEW else [open_sweep(home, asked)]
        return _show([standing(home, one) for one in kept], arguments.json, asked == OVERVIEW)
    recipe, preset = resolve_recipe(asked)
    recipe = Recipe.from_dict({**recipe.to_dict(), **chosen_settings(arguments)}, "--set")
    tries = parse_tries(arguments.tries)
    dataset = _data(home, arguments.data or (preset.sample if preset else None), arguments)
    plan = plan_sweep(home, recipe, dataset, tries, halving=arguments.halving)
    if not arguments.json:
        print(f"{plan.sentence()}.")
    preset_id = preset.id if preset else None
    sweep = create_sweep(home, plan, dataset, name=arguments.name, preset=preset_id)
    found = standing(home, sweep)
    if arguments.json:
        print(json.dumps({**found.to_dict(), "sentence": plan.sentence()}, ensure_ascii=False))
    else:
        print("\n".join(_lines(found)))
    if not _app_is_open(home):
        print("They wait for the app: start it on this home folder to train them.", file=sys.stderr)
    return 0


def _data(home: Path, data: str | None, arguments: argparse.Namespace) -> StoredDataset:
    """The dataset of --data. Raises UserError without one, or while its columns are unclear."""
    if data is None:
        names = ", ".join(sample.id for sample in samples())
        raise UserError("No data was given.", "--data", f"Name a file or a sample ({names}).")
    return read_dataset(home, data, arguments)


def _show(found: list[Standing], as_json: bool, many: bool) -> int:
    if as_json:
        facts = [one.to_dict() for one in found]
        print(json.dumps(facts if many else facts[0], ensure_ascii=False))
    else:
        print("\n\n".join("\n".join(_lines(one)) for one in found) or "There are no sweeps.")
    return 0


def _lines(found: Standing) -> list[str]:
    """A sweep as a table for people; the best run is marked."""
    lines = [f"{found.sweep.id}  {found.sweep.name}"]
    for one in found.outcomes:
        mark = "*" if one.id == found.best else " "
        facts = f"{one.state:<9}  eval loss {_figure(one.eval_loss)}"
        if found.by in MEASURE_LABELS:
            facts += f"  {MEASURE_LABELS[found.by]} {_figure(one.score)}"
        lines.append(f"{mark} {one.id}  {facts}  {one.name}")
        lines += [f"    {one.why}"] if one.why else []
    return [*lines, found.sentence(), *(f"Note: {note}" for note in found.sweep.notes)]


def _figure(value: float | None) -> str:
    return f"{'-' if value is None else format(value, '.4f'):>8}"


def _app_is_open(home: Path) -> bool:
    """Whether an app manages this home, which starts the queued runs."""
    holder = FileLock(home / "scheduler.lock")
    try:
        holder.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # read-only
        return False
    holder.release()
    return False
