"""The estimate of a run: what it will take on this machine, and the settings that would fit.

Parts are put together here; each formula is elsewhere. Nothing is loaded, started or refused.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from trainer_backend import hardware as machines
from trainer_backend.data.store import LengthReport, StoredDataset, resolve_data
from trainer_backend.disk import free_bytes
from trainer_backend.errors import UserError
from trainer_backend.estimation.device import rates_of
from trainer_backend.estimation.fix import Way, fitting_changes, tightest
from trainer_backend.estimation.lengths import RowLengths, row_lengths
from trainer_backend.estimation.memory import Setup, in_parts, peak_memory
from trainer_backend.estimation.plan import Plan, plan_run, unknown_rows
from trainer_backend.estimation.range import Range
from trainer_backend.estimation.saving.choice import ROOM, said, settle
from trainer_backend.estimation.shape import Shape, shape_of
from trainer_backend.estimation.speed import seconds_of, settled
from trainer_backend.estimation.storage import RESERVE_BYTES, checkpoints_bytes
from trainer_backend.estimation.weights import Stored, stored_weights
from trainer_backend.hardware import GIB, Hardware
from trainer_backend.models import locate_model
from trainer_backend.models.facts import ModelFacts, model_facts
from trainer_backend.recipe import Recipe, changed_to, recipe_from_request, resolve_recipe
from trainer_backend.recipe.resolve import (
    QUANTIZED,
    check_recipe,
    num_processes,
    resolve,
)

SURE = (0.9, 1.12)  # of the likely memory: where measured peaks lay, with counted tokens
NO_FIX = "No settings make it fit"  # begins the note where nothing helps
NO_DATA = 0.4  # of the maximum length: short rows, where no data says how long they are


@dataclass(frozen=True)
class Estimate:
    """What a run takes. Memory, download and disk are in GiB; None: not known.

    `fits` is None where the memory is not known. `parts` sum up to the likely memory: weights,
    adapter, optimizer, gradients, activations, logits, other. `fix` holds the settings that make
    it fit, None if it fits or nothing helps; `based_on` and `notes` are sentences for people.
    """

    fits: bool | None
    memory_gb: Range | None
    parts: dict[str, float]
    memory_free_gb: float
    steps: int | None
    tokens: int | None
    seconds: Range | None
    download_gb: float | None
    disk_gb: float | None
    based_on: str
    fix: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The JSON of the command line and the web API."""
        return asdict(self)


SWITCHES = ("gradient_checkpointing", "activation_offloading")  # that settle() may switch on


@dataclass(frozen=True)
class Case:
    """One recipe on one machine, with all that is known of its model and its data."""

    home: Path
    recipe: Recipe  # as asked
    machine: Hardware
    facts: ModelFacts
    shape: Shape | None
    stored: Stored | None
    dataset: StoredDataset | None
    lengths: RowLengths | None

    def setup(self, recipe: Recipe) -> tuple[Setup, list[str]]:
        """All that decides the memory of a recipe, and notes. The shape must be known."""
        assert self.shape is not None
        ready, notes = settled_recipe(recipe, self.machine, self.home)
        processes = num_processes(ready, self.machine)
        plan, more = self.plan(ready, processes)
        setup = Setup(
            shape=self.shape,
            recipe=ready,
            machine=self.machine,
            plan=plan,
            processes=processes,
            stored=self.stored,
            bits=self.facts.bits,
        )
        room = ROOM * self.machine.memory_free * GIB
        smallest = self._merged(setup, 0.0) if setup.merges else setup
        kept = settle(smallest, room)
        switched = {name: getattr(kept.recipe, name) for name in SWITCHES}
        saving = replace(setup, recipe=replace(ready, **switched), tiled=kept.tiled)
        about = said(smallest, kept)
        told = [*notes, *more, *([about] if about else [])]
        if not setup.merges:
            return saving, told
        found = self._merged(saving, room)
        return found, [*told, *_about_parts(saving, found)]

    def _merged(self, setup: Setup, room: float) -> Setup:
        """The setup with each step in as few parts as `room` bytes hold: 1, 2, 4 … single rows."""
        recipe = setup.recipe
        rows = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps
        at_once = replace(recipe, per_device_train_batch_size=rows, gradient_accumulation_steps=1)
        whole, _ = self.plan(at_once, setup.processes)
        parts = 1
        while True:
            found = in_parts(setup, whole, parts)
            if parts >= rows or sum(peak_memory(found).values()) <= room:
                return found
            parts = min(2 * parts, rows)

    def plan(self, recipe: Recipe, processes: int) -> tuple[Plan, list[str]]:
        """The plan of a recipe and notes; without data every row is as long as allowed."""
        if self.dataset is None or self.lengths is None:
            what = "No data was given" if self.dataset is None else "The data has no rows to learn"
            return unknown_rows(recipe), [f"{what}: every row is counted at the maximum length."]
        packs = self.shape is None or self.shape.packs
        routed = self.shape is not None and bool(self.shape.chosen_width)
        fills = self.machine.kind == "cuda" and not (routed or recipe.neftune_noise_alpha)
        return plan_run(
            recipe, self.dataset, self.lengths, devices=processes, packs=packs, fills=fills
        )

    def way(self, recipe: Recipe) -> Way | None:
        """What a changed recipe takes; None if this machine refuses it."""
        if any(one.severity == "error" for one in check_recipe(recipe, self.machine)):
            return None
        setup, _ = self.setup(recipe)
        return Way(recipe, sum(peak_memory(setup).values()) / GIB)


def estimate(
    recipe: Recipe | str | Mapping[str, Any],
    dataset: StoredDataset | str | Path | None = None,
    hardware: Hardware | None = None,
    *,
    home: Path | None = None,
    lengths: LengthReport | None = None,
) -> Estimate:
    """What a run with this recipe takes, without loading weights and without torch.

    `recipe` may be a preset's name, a YAML file or {field: value}; `dataset` a file, a sample or a
    dataset's id, read and stored if it is not stored yet. `lengths` are the counted tokens of the
    dataset's rows; without them stored counts are used, or the lengths are guessed from the texts.
    `hardware` is this machine unless given. What is not known (a model whose sizes nobody can read)
    is None, with a note; nothing is raised for it. Raises UserError for a recipe or data that does
    not exist.
    """
    home = _home_of(home, dataset)
    asked = _as_recipe(recipe)
    stored = resolve_data(home, str(dataset)) if isinstance(dataset, str | Path) else dataset
    case = make_case(home, asked, stored, hardware or machines.hardware(), lengths)
    notes = [
        f"{p.what} {p.fix}" for p in check_recipe(asked, case.machine) if p.severity == "error"
    ]
    notes += [case.machine.problem] if case.machine.problem else []
    notes += _about_model(case.facts)
    if case.shape is None:
        return _without_sizes(case, notes)
    setup, more = case.setup(asked)
    return _of_setup(case, setup, notes + more)


def make_case(
    home: Path,
    recipe: Recipe,
    dataset: StoredDataset | None,
    machine: Hardware,
    lengths: LengthReport | None = None,
) -> Case:
    """Gather what is known of a recipe's model and of its data."""
    facts = model_facts(home, recipe.base_model)
    stored = _stored(home, facts)
    shape = shape_of(facts.config, _parameters(facts, stored))
    known = None
    if dataset is not None and dataset.num_examples:
        known = row_lengths(dataset, recipe, lengths)
    return Case(home, recipe, machine, facts, shape, stored, dataset, known)


def settled_recipe(
    recipe: Recipe, machine: Hardware, home: Path | None = None
) -> tuple[Recipe, list[str]]:
    """The recipe without “auto”, and notes; one that this machine refuses as far as it goes.

    On a CPU the measured rates of `home` decide about bf16, as the run's own measure will.
    """
    try:
        resolved, notes = resolve(recipe, machine)
    except UserError:
        return settled(recipe, machine, rates_of(machine, home)), []
    if recipe.precision == "auto" and recipe.adapter != "qlora":
        timed = settled(recipe, machine, rates_of(machine, home))
        resolved = replace(resolved, precision=timed.precision)
    return resolved, notes


def _home_of(home: Path | None, dataset: object) -> Path:
    if home is not None:
        return home
    if isinstance(dataset, StoredDataset):
        return dataset.dir.parent.parent
    return Path(os.environ.get("SFT_STUDIO_HOME") or "workspace").expanduser().resolve()


def _as_recipe(recipe: Recipe | str | Mapping[str, Any]) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    return resolve_recipe(recipe)[0] if isinstance(recipe, str) else recipe_from_request({**recipe})


def _stored(home: Path, facts: ModelFacts) -> Stored | None:
    """The weights of a model that is on this machine."""
    folder = facts.folder
    if folder is None:
        try:
            folder = locate_model(home, facts.base_model).folder
        except UserError:
            return None
    try:
        found = stored_weights(folder) if folder else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # damaged files are named where the model is checked
    return found if found and (found.numbers or found.fixed_bytes) else None


def _parameters(facts: ModelFacts, stored: Stored | None) -> int | None:
    if stored is not None and not stored.fixed_bytes:
        return stored.numbers
    return facts.parameters


def _about_model(facts: ModelFacts) -> list[str]:
    return [f"{facts.problem.what} {facts.problem.fix}"] if facts.problem else []


def _of_setup(case: Case, setup: Setup, notes: list[str]) -> Estimate:
    parts = {name: size / GIB for name, size in peak_memory(setup).items()}
    memory, free = memory_range(case, setup), case.machine.memory_free
    fits, fix = memory.likely <= free, None
    if not fits:
        fix = fitting_changes(case.recipe, case.machine, case.way, free)
        notes = [*notes, *_too_large(case, fix)]
    elif memory.high > free:
        notes = [
            *notes,
            f"It is tight: {memory.high:.1f} GB may be needed, {free:.1f} GB are free.",
        ]
    download = None if case.facts.download_bytes is None else case.facts.download_bytes / GIB
    disk = checkpoints_bytes(setup) / GIB + (download or 0.0)
    notes = [*notes, *_about_disk(case.home, disk), *_about_processes(setup)]
    plan, known = setup.plan, case.lengths is not None or setup.plan.steps > 0
    seconds, basis = _time(case, setup)
    return Estimate(
        fits=fits,
        memory_gb=memory,
        parts={name: round(size, 4) for name, size in parts.items()},
        memory_free_gb=round(free, 3),
        steps=plan.steps if known else None,
        tokens=plan.tokens if case.lengths is not None else None,
        seconds=seconds,
        download_gb=None if download is None else round(download, 3),
        disk_gb=round(disk, 3),
        based_on=f"{_based_on(case)}{basis}",
        fix=fix,
        notes=list(dict.fromkeys(notes)),
    )


def _time(case: Case, setup: Setup) -> tuple[Range | None, str]:
    """Seconds of the run without the download, and what they are based on, to go on a sentence."""
    if setup.plan.steps < 1:
        return None, ""
    recipe = setup.recipe
    if setup.bits is not None and recipe.precision not in QUANTIZED:
        recipe = replace(recipe, precision=f"int{setup.bits}")
    seconds, basis = seconds_of(setup.shape, setup.plan, recipe, case.machine, case.home)
    spread = case.lengths.spread if case.lengths else 1 - NO_DATA
    low, high = seconds.low * (1 - spread), seconds.high * (1 + spread)
    wider = Range(*(round(one, 1) for one in (low, seconds.likely, high)))
    return wider, f"; the time on {basis}"


def memory_range(case: Case, setup: Setup) -> Range:
    """GiB at the peak: the likely figure, and how far it may be off."""
    likely = sum(peak_memory(setup).values())
    spread = case.lengths.spread if case.lengths else 1 - NO_DATA
    shorter = _with_tokens(setup, 1 - spread)
    longer = _with_tokens(setup, 1 + spread if case.lengths else 1.0)
    low = SURE[0] * sum(peak_memory(shorter).values())
    high = SURE[1] * sum(peak_memory(longer).values())
    return Range(*(round(one / GIB, 3) for one in (low, likely, high)))


def _with_tokens(setup: Setup, factor: float) -> Setup:
    """The setup with rows that are longer or shorter than thought."""
    if factor == 1.0:
        return setup
    plan, most = setup.plan, setup.recipe.max_length * setup.recipe.per_device_train_batch_size
    names = ("longest_batch", "longest_trained", "drawn_batch", "eval_batch", "eval_learned")
    scaled: dict[str, Any] = {name: int(min(most, getattr(plan, name) * factor)) for name in names}
    return replace(setup, plan=replace(plan, **scaled))


def _without_sizes(case: Case, notes: list[str]) -> Estimate:
    """What is known of a run whose model's sizes nobody can read."""
    ready, more = settled_recipe(case.recipe, case.machine, case.home)
    plan, about = case.plan(ready, num_processes(ready, case.machine))
    download = case.facts.download_bytes
    known = case.lengths is not None or plan.steps > 0
    what = "The sizes of this model are not known, so its memory and time cannot be estimated."
    return Estimate(
        fits=None,
        memory_gb=None,
        parts={},
        memory_free_gb=round(case.machine.memory_free, 3),
        steps=plan.steps if known else None,
        tokens=plan.tokens if case.lengths is not None else None,
        seconds=None,
        download_gb=None if download is None else round(download / GIB, 3),
        disk_gb=None,
        based_on="the rows of the data" if case.dataset else "the recipe alone",
        notes=list(dict.fromkeys([what, *notes, *more, *about])),
    )


def _too_large(case: Case, fix: dict[str, Any] | None) -> list[str]:
    """What to do when it does not fit, in words."""
    machine, notes = case.machine, []
    if fix is not None:
        notes.append(f"It fits with these settings: set {changed_to(fix)}.")
        if cut := _cut_by(case, fix):
            notes.append(cut)
    else:
        least = tightest(case.recipe, case.machine, case.way)
        need = f": the least is {least.gigabytes:.1f} GB" if least else ""
        notes.append(f"{NO_FIX}{need}. Choose a smaller model.")
    return notes + _held_by_others(machine)


def _held_by_others(machine: Hardware) -> list[str]:
    used = machine.memory_total - machine.memory_free
    if machine.kind != "cuda" or used <= 1:
        return []
    return [f"Other programs hold {used:.1f} GB of the GPU now: what is free counts."]


def _about_parts(asked: Setup, found: Setup) -> list[str]:
    """How a merged step is computed, in words; nothing for one batch that is computed whole."""
    batches = asked.recipe.gradient_accumulation_steps
    rows = batches * asked.recipe.per_device_train_batch_size
    if found.parts > 1:
        what = (
            f"Each step of {rows:,} rows is computed in about {found.parts:,} parts: the memory is "
            "too small for all of it at once (the same result, slower)."
        )
        return [what, *_held_by_others(found.machine)]
    if batches == 1:
        return []
    return [f"The {batches:,} batches of each step are computed at once: the memory allows it."]


def _cut_by(case: Case, fix: dict[str, Any]) -> str:
    """What a shorter maximum length does to the rows, in words; "" when it cuts none more."""
    if "max_length" not in fix or case.lengths is None:
        return ""
    now, then = (
        (case.lengths.total > n).sum() for n in (case.recipe.max_length, fix["max_length"])
    )
    if then <= now:
        return ""
    return f"{then:,} of {len(case.lengths.total):,} rows are then cut, {now:,} without the change."


def _about_disk(home: Path, disk_gb: float) -> list[str]:
    """A note when the disk of the home is too small for the run and its reserve."""
    place = next((one for one in (home, *home.parents) if one.is_dir()), None)
    if place is None:
        return []
    free = free_bytes(place) / GIB
    if disk_gb + RESERVE_BYTES / GIB <= free:
        return []
    return [
        f"The disk is too small: {disk_gb + RESERVE_BYTES / GIB:.1f} GB are needed with a reserve, "
        f"{free:.1f} GB are free."
    ]


def _about_processes(setup: Setup) -> list[str]:
    if setup.processes < 2:
        return []
    if setup.device == "cuda":
        return [f"The memory is that of each of {setup.processes} devices."]
    return [f"The memory is that of all {setup.processes} training processes together."]


def _based_on(case: Case) -> str:
    """What the estimate is based on, as part of a sentence."""
    sizes = "the weights on this machine" if case.stored else "the sizes of the model"
    if case.dataset is None or case.lengths is None:
        return sizes
    count = case.dataset.num_examples
    rows = "1 row" if count == 1 else f"{count:,} rows"
    how = "guessed" if case.lengths.spread else "counted"
    return f"{sizes} and the {how} tokens of {rows}"
