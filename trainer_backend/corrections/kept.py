"""The corrections kept for a run's data: a dataset of their own whose versions grow.

Runs on the same data, and runs that were trained on its corrections, share them. What a row holds
and how it is trained on is not decided here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from trainer_backend.corrections.correction import (
    MAPPING,
    Correction,
    Wrong,
    as_row,
    check_changed,
    correction_of,
)
from trainer_backend.data.formats import to_example
from trainer_backend.data.store import StoredDataset, open_dataset, pages
from trainer_backend.data.store.build import Plan, build, next_version
from trainer_backend.data.store.fingerprint import dataset_id
from trainer_backend.data.store.pages import NumberedRow
from trainer_backend.errors import UserError
from trainer_backend.home import read_json, write_json
from trainer_backend.models.loaded.answer_parts import Answer
from trainer_backend.runs import Run, open_run

CORRECTIONS = "corrections"  # the folder in the home, and the entry of a dataset's source
MOST = 1_000  # corrections of one dataset


@dataclass(frozen=True)
class Kept:
    """The corrections of a run's data; `dataset` is their newest version, None without any."""

    dataset: StoredDataset | None = None
    corrections: list[Correction] = field(default_factory=list)
    said: str = ""  # what the last change did


def subject_of(dataset: StoredDataset) -> str:
    """What corrections belong to: the upload, whatever version of it or mix with it is trained."""
    mixed = dataset.source.get(CORRECTIONS) or {}
    return str(mixed.get("of") or dataset.content or dataset.id)


def kept_for(run: Run) -> Kept:
    """The corrections that a run can be trained on. Raises UserError if its data was deleted."""
    return _read(run.home, subject_of(run.dataset()))


def keep_correction(home: Path, wrong: Wrong, right: Answer) -> Kept:
    """Keep the right answer to a question; the same question corrected again replaces the earlier.

    Raises UserError for an answer that is empty or the model's own, and for a conversation that
    cannot be trained on.
    """
    check_changed(wrong, right)
    run = open_run(home, wrong.run)
    trained = run.dataset()
    subject = subject_of(trained)
    with _lock(home, subject):
        kept = _read(home, subject)
        numbers = [one.number for one in kept.corrections]
        row = as_row(max(numbers, default=0) + 1, wrong, right)
        same = _same_question(kept, row)
        number = same.number if same else max(numbers, default=0) + 1
        if not same and len(numbers) >= MOST:
            fix = "Train on these first, then take back what the model has learned."
            raise UserError(f"{MOST:,} corrections are kept already.", trained.name, fix)
        done = "A correction was replaced." if same else "A correction was added."
        plan = _plan(subject, trained, kept.dataset, {"row": number, "cells": _told(row)}, done)
        dataset = build(home, _rows(kept.dataset, number, row), plan)
        return _point_to(home, subject, dataset, done)


def take_back(run: Run, number: int) -> Kept:
    """Drop one correction. Raises UserError if there is none with this number."""
    trained = run.dataset()
    subject = subject_of(trained)
    with _lock(run.home, subject):
        kept = _read(run.home, subject)
        if number not in [one.number for one in kept.corrections]:
            fix = "Choose one of the list."
            raise UserError(f"There is no correction {number}.", trained.name, fix)
        done = "A correction was taken back."
        if len(kept.corrections) == 1:
            return _point_to(run.home, subject, None, done)
        plan = _plan(subject, trained, kept.dataset, {"drop": number}, done)
        dataset = build(run.home, _rows(kept.dataset, number, None), plan)
        return _point_to(run.home, subject, dataset, done)


def _same_question(kept: Kept, row: dict[str, Any]) -> Correction | None:
    made = correction_of(0, row, to_example(0, row, MAPPING))
    return next((one for one in kept.corrections if one.key == made.key), None)


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """What tells two rows apart, as JSON: pictures by their names."""
    images = [getattr(one, "stored_name", one) for one in row.get("images") or ()]
    return {**row, "images": images}


def _plan(
    subject: str,
    trained: StoredDataset,
    before: StoredDataset | None,
    change: dict[str, Any],
    done: str,
) -> Plan:
    """The next version of the corrections, or their first one."""
    facts = {"step": CORRECTIONS, "done": done}
    if before is not None:
        return next_version(before, CORRECTIONS, change, mapping=MAPPING, extra=facts)
    return Plan(
        name=f"corrections to {_name(trained)}",
        content=dataset_id({CORRECTIONS: subject}),
        num_bytes=0,
        kinds=(CORRECTIONS,),
        options=change,
        mapping=MAPPING,
        extra={**facts, "source": {CORRECTIONS: {"of": subject}}},
    )


def _name(trained: StoredDataset) -> str:
    mixed = trained.source.get(CORRECTIONS) or {}
    return str(mixed.get("name") or trained.name)


def _rows(
    before: StoredDataset | None, number: int, row: dict[str, Any] | None
) -> Iterator[NumberedRow]:
    """The rows of the version before with row `number` replaced, added, or left out for None."""
    seen = False
    for at, old in pages.iter_rows(before.dir / "rows.parquet") if before else ():
        seen = seen or at == number
        if at != number:
            yield at, old
        elif row is not None:
            yield number, row
    if row is not None and not seen:
        yield number, row


def _pointer(home: Path, subject: str) -> Path:
    return home / CORRECTIONS / f"{subject}.json"


def _lock(home: Path, subject: str) -> FileLock:
    (home / CORRECTIONS).mkdir(exist_ok=True)
    return FileLock(_pointer(home, subject).with_suffix(".lock"))


def _point_to(home: Path, subject: str, dataset: StoredDataset | None, done: str) -> Kept:
    write_json(_pointer(home, subject), {"dataset_id": dataset.id if dataset else ""})
    found = _read(home, subject)
    return Kept(found.dataset, found.corrections, done)


def _read(home: Path, subject: str) -> Kept:
    """The corrections of a subject; none if their dataset was deleted."""
    found: Any = read_json(_pointer(home, subject), {})
    try:
        dataset = open_dataset(home, found["dataset_id"]) if found.get("dataset_id") else None
    except UserError:
        return Kept()
    if dataset is None:
        return Kept()
    return Kept(dataset, corrections_in(dataset))


def corrections_in(dataset: StoredDataset) -> list[Correction]:
    """The corrections in one version of them, in order of their numbers."""
    examples = {one.row: one for one in dataset.examples()}
    rows = dict(pages.iter_rows(dataset.dir / "rows.parquet"))
    return [correction_of(at, rows[at], one) for at, one in sorted(examples.items())]
