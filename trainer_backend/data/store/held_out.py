"""Adds a held-out file to a dataset: its rows follow the training rows in a new version.

The seeded split of the training rows is not decided here, nor which rows overlap.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainer_backend.data.formats import ColumnMapping
from trainer_backend.data.readers import Progress
from trainer_backend.data.store import pages
from trainer_backend.data.store.build import build, counted, next_version
from trainer_backend.data.store.dataset import StoredDataset, open_dataset
from trainer_backend.data.store.pages import NumberedRow, row_numbers
from trainer_backend.data.store.split import HeldOutFile
from trainer_backend.errors import UserError


def with_held_out(
    home: Path, dataset_id: str, held_out_id: str | None, *, on_progress: Progress | None = None
) -> StoredDataset:
    """A version evaluated on the rows of another dataset; None returns to a seeded split.

    The held-out rows are numbered after the last training row; rows on both sides become a problem.
    Raises UserError when the columns of the two do not have the same roles.
    """
    dataset = open_dataset(home, dataset_id)
    if held_out_id is None:
        return _without(home, dataset)
    other = open_dataset(home, held_out_id)
    _check_roles(dataset, other)
    offset = int(_train_numbers(dataset)[-1])
    about: HeldOutFile = {"dataset_id": other.id, "name": other.name, "row": offset + 1}
    done = f"{other.num_examples:,} rows of {other.name} are held out."
    change = {"dataset_id": other.id, "hash": other.hash}
    plan = next_version(dataset, "held_out", change, extra={"held_out": about, "done": done})
    plan = replace(plan, image_folders=(dataset.dir, other.dir))
    rows = counted(_both(dataset, other, offset), dataset.num_rows + other.num_rows, on_progress)
    return build(home, rows, plan)


def _without(home: Path, dataset: StoredDataset) -> StoredDataset:
    if not dataset.held_out:
        return dataset
    before = dataset.parent_version() if dataset.step == "held_out" else None
    if before:
        return _without(home, before)
    extra = {"held_out": None, "done": "The held-out file was removed."}
    plan = next_version(dataset, "held_out", {"none": True}, extra=extra)
    return build(home, _train_rows(dataset), plan)


def _check_roles(dataset: StoredDataset, other: StoredDataset) -> None:
    if dataset.mapping is None or other.mapping is None:
        unclear = dataset if dataset.mapping is None else other
        what = "The roles of the columns are not decided."
        raise UserError(what, unclear.name, "Choose its columns first.")
    mine, others = set(dataset.mapping.roles), set(other.mapping.roles)
    needed = mine & {"prompt", "completion", "messages", "text"}
    if others - mine or needed - others:
        raise UserError(
            f"The held-out file has {_listed(others)}, the training data has {_listed(mine)}.",
            other.name,
            "Use a held-out file with the same kinds of columns, or choose the columns again.",
        )


def _listed(roles: set[str]) -> str:
    names = sorted(roles)
    return f"{', '.join(names[:-1])} and {names[-1]}" if names[1:] else names[0]


def _train_numbers(dataset: StoredDataset) -> np.ndarray:
    numbers = row_numbers(dataset.dir)
    return numbers[numbers < dataset.held_out["row"]] if dataset.held_out else numbers


def _train_rows(dataset: StoredDataset) -> Iterator[NumberedRow]:
    """All rows, or those before the held-out file."""
    end = dataset.held_out["row"] if dataset.held_out else None
    for number, row in pages.iter_rows(dataset.dir / "rows.parquet"):
        if end is not None and number >= end:
            return
        yield number, row


def _both(dataset: StoredDataset, other: StoredDataset, offset: int) -> Iterator[NumberedRow]:
    yield from _train_rows(dataset)
    assert dataset.mapping and other.mapping  # by _check_roles
    names = _renamed(dataset.mapping, other.mapping)
    for at, (_, row) in enumerate(_train_rows(other), start=1):
        yield offset + at, {new: row[old] for old, new in names.items() if old in row}


def _renamed(mine: ColumnMapping, others: ColumnMapping) -> dict[str, str]:
    """{column of the held-out file: training column with the same role}."""
    return {column: mine.roles[role] for role, column in others.roles.items()}
