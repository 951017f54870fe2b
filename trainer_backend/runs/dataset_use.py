"""Deletes a stored dataset, unless a run needs it.

Only spec.json and the name of a run are read here.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock

from trainer_backend.data.store import download_folder, open_dataset
from trainer_backend.errors import UserError
from trainer_backend.home import new_id, read_json
from trainer_backend.runs.files import NAME, SPEC

NAMED = 3  # runs listed in the error


def delete_dataset(home: Path, dataset_id: str) -> None:
    """Delete a dataset. Raises UserError while a run that was made with it exists.

    The folder is renamed first, so that no half-deleted dataset is ever listed; a remainder is
    removed when the next dataset is stored. Versions made from it stay.
    """
    dataset = open_dataset(home, dataset_id)
    with FileLock(home / "runs" / ".create.lock"):  # no run is created with it meanwhile
        if runs := runs_that_need(home, dataset.id):
            raise _in_use(dataset.name, runs)
        trash = dataset.dir.with_name(f".trash-{new_id('dataset')}")
        try:
            os.rename(dataset.dir, trash)
        except OSError as error:
            raise UserError(
                f"The dataset could not be deleted: {error.strerror or error}.",
                f"dataset {dataset.name}",
                "Check the permissions of the home folder, then try again.",
            ) from None
    shutil.rmtree(trash, ignore_errors=True)
    shutil.rmtree(download_folder(home, dataset.id), ignore_errors=True)


def runs_that_need(home: Path, dataset_id: str) -> list[str]:
    """The names of the runs that were made with a dataset, in order of their ids."""
    names = []
    for path in sorted((home / "runs").glob(f"run-*/{SPEC}")):
        spec: Any = read_json(path) or {}  # {}: the run is being deleted
        if (spec.get("dataset") or {}).get("id") == dataset_id:
            name = path.with_name(NAME)
            names.append(name.read_text(encoding="utf-8") if name.is_file() else path.parent.name)
    return names


def _in_use(name: str, runs: list[str]) -> UserError:
    listed = ", ".join(f"“{run}”" for run in runs[:NAMED])
    more = f" and {len(runs) - NAMED} more" if len(runs) > NAMED else ""
    one = len(runs) == 1
    return UserError(
        f"{'A run needs' if one else f'{len(runs)} runs need'} this dataset: {listed}{more}.",
        f"dataset {name}",
        f"Delete {'the run' if one else 'these runs'} first, or keep the dataset.",
        code="dataset_in_use",
    )
