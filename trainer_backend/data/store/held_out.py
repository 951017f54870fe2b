"""A held-out file of one's own: its rows follow the training rows in a new version.

A seeded share of the training rows is split.py; which rows overlap is found in the pass.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainer_backend.data.formats import ColumnMapping
from trainer_backend.data.readers import Progress
from trainer_backend.data.store import pages
from trainer_backend.data.store.build import counted, make, next_version
from trainer_backend.data.store.dataset import StoredDataset, open_dataset
from trainer_backend.data.store.pages import row_numbers
from trainer_backend.errors import UserError


def with_held_out(
    home: Path, dataset_id: str, held_out_id: str | None, *, on_progress: Progress | None = None
) -> StoredDataset:
    """A version that is measured with the rows of another dataset; None goes back to a share.

    The held-out rows are numbered on from the last training row. Rows that are in both are named
    as a problem. Raises UserError when the columns of the two do not play the same roles.
    """
    dataset = open_dataset(home, dataset_id)
    if held_out_id is None:
        return _without(home, dataset)
    other = open_dataset(home, held_out_id)
    _check_roles(dataset, other)
    offset = int(_train_numbers(dataset)[-1])
    about = {"dataset_id": other.id, "name": other.name, "row": offset + 1}
    done = f"{other.num_examples:,} rows of {other.name} are held out."
    change = {"dataset_id": other.id, "hash": other.hash}
    making = next_version(dataset, "held_out", change, said={"held_out": about, "done": done})
    making = replace(making, image_folders=(dataset.dir, other.dir))
    rows = counted(_both(dataset, other, offset), dataset.num_rows + other.num_rows, on_progress)
    return make(home, rows, making)


def _without(home: Path, dataset: StoredDataset) -> StoredDataset:
    if not dataset.held_out:
        return dataset
    parent = dataset.dir.parent / (dataset.parent or "-") / "meta.json"
    if dataset.step == "held_out" and parent.is_file():
        before = open_dataset(home, dataset.parent)
        return _without(home, before)
    done = "The own held-out file was taken out."
    making = next_version(
        dataset, "held_out", {"none": True}, said={"held_out": None, "done": done}
    )
    return make(home, _train_rows(dataset), making)


def _check_roles(dataset: StoredDataset, other: StoredDataset) -> None:
    if dataset.mapping is None or other.mapping is None:
        unclear = dataset if dataset.mapping is None else other
        fix = "Choose its columns first."
        raise UserError("It is not decided what the columns mean.", unclear.name, fix)
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


def _train_rows(dataset: StoredDataset) -> Iterator[tuple[int, dict]]:
    """The rows that are trained on: all, or those before an own held-out file."""
    end = dataset.held_out["row"] if dataset.held_out else None
    for number, row in pages.iter_rows(dataset.dir / "rows.parquet"):
        if end is not None and number >= end:
            return
        yield number, row


def _both(dataset: StoredDataset, other: StoredDataset, offset: int) -> Iterator[tuple[int, dict]]:
    yield from _train_rows(dataset)
    names = _renamed(dataset.mapping, other.mapping)
    for at, (_, row) in enumerate(_train_rows(other), start=1):
        yield offset + at, {new: row[old] for old, new in names.items() if old in row}


def _renamed(mine: ColumnMapping, others: ColumnMapping) -> dict[str, str]:
    """For each column of the held-out file, the training column that plays the same role."""
    return {column: mine.roles[role] for role, column in others.roles.items()}
