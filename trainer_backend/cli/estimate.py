"""The command estimate: what a run would take here, before anything is loaded.

Only choosing and printing happens here; tokens are counted where the tokenizer is on this machine.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from trainer_backend.cli.data import chosen_settings, count_tokens, read_dataset
from trainer_backend.data.store import LengthReport, StoredDataset
from trainer_backend.errors import UserError
from trainer_backend.estimation import Estimate, estimate
from trainer_backend.estimation.device import may_measure, measure, measured_rates
from trainer_backend.estimation.words import (
    duration_range,
    gigabytes,
    memory_words,
    verdict,
)
from trainer_backend.hardware import Hardware, hardware
from trainer_backend.models.facts import model_facts
from trainer_backend.recipe import Recipe, resolve_recipe

FITS, DOES_NOT_FIT = 0, 2


def do_estimate(home: Path, arguments: argparse.Namespace) -> int:
    """Print what a run would take; exit code 2, with the settings that fit, if it is too large."""
    recipe, preset = resolve_recipe(arguments.recipe)
    recipe = Recipe.from_dict({**recipe.to_dict(), **chosen_settings(arguments)}, "--set")
    data = arguments.data or (preset.sample if preset else None)
    dataset = read_dataset(home, data, arguments) if data else None
    lengths, notes = _counted(home, dataset, recipe, arguments.json)
    machine = hardware()
    _measure_once(home, machine, arguments.json)
    found = estimate(recipe, dataset, machine, home=home, lengths=lengths)
    found.notes.extend(notes)
    if arguments.json:
        print(json.dumps(found.to_dict(), ensure_ascii=False))
    else:
        print("\n".join(_lines(found, memory_words(found, machine))))
    return DOES_NOT_FIT if found.fits is False else FITS


def _measure_once(home: Path, machine: Hardware, quiet: bool) -> None:
    """Measure this machine's speed if nobody has: a few seconds, most of them to load torch."""
    if may_measure() and not measured_rates(machine, home):
        if not quiet:
            print("Measuring the speed of this machine, once …", file=sys.stderr, flush=True)
        measure(home)


def _counted(
    home: Path, dataset: StoredDataset | None, recipe: Recipe, quiet: bool
) -> tuple[LengthReport | None, list[str]]:
    """The counted tokens of the data, and notes; None where they cannot be counted now."""
    if dataset is None or not dataset.num_examples:
        return None, []
    if model_facts(home, recipe.base_model).folder is None:
        return None, []  # its tokenizer would be downloaded for it
    try:
        return count_tokens(home, dataset, recipe, quiet), []
    except (UserError, OSError, ValueError) as error:
        why = error.what if isinstance(error, UserError) else str(error)
        return None, [f"The tokens could not be counted: {why}"]


def _lines(found: Estimate, memory: str) -> list[str]:
    """The estimate as a table for people."""
    rows = [("Memory", f"{verdict(found)}{f': {memory}' if memory else ''}")]
    if found.parts:
        sizes = sorted(found.parts.items(), key=lambda one: -one[1])
        parts = ", ".join(f"{name} {gigabytes(size)}" for name, size in sizes if size >= 0.005)
        rows.append(("of it", parts))
    rows.append(("Steps", _number(found.steps)))
    rows.append(("Tokens", _number(found.tokens)))
    rows.append(("Time", duration_range(found.seconds) if found.seconds else "not known"))
    rows.append(("Download", _size(found.download_gb)))
    rows.append(("Disk", _size(found.disk_gb)))
    rows.append(("Based on", found.based_on))
    lines = [f"{name:<10}{text}" for name, text in rows]
    lines += [f"Note: {note}" for note in found.notes]
    if found.fix:
        lines.append(f"Add this to make it fit:  {_as_options(found.fix)}")
    return lines


def _number(count: int | None) -> str:
    return "not known" if count is None else f"{count:,}"


def _size(amount: float | None) -> str:
    if amount is None:
        return "not known"
    return "nothing" if amount == 0 else gigabytes(amount)


def _as_options(fix: dict[str, Any]) -> str:
    words = (f"{name}={str(value).lower()}" for name, value in fix.items())
    return " ".join(f"--set {shlex.quote(word)}" for word in words)
