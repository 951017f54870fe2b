"""Resolves the DATA argument of the command line: files, a folder, a sample, a dataset or Hub id.

How any of them is read is not known here.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trainer_backend import downloads
from trainer_backend.data.formats import ColumnMapping, mapping_of
from trainer_backend.data.readers import Progress
from trainer_backend.data.readers.hub import is_hub_id
from trainer_backend.data.readers.options import DEFAULT, SUFFIXES, UPLOAD_SUFFIXES, ReadOptions
from trainer_backend.data.store.dataset import StoredDataset, open_dataset
from trainer_backend.data.store.held_out import with_held_out
from trainer_backend.data.store.uploads import (
    create_dataset,
    create_from_hub,
    create_from_sample,
    remap_dataset,
)
from trainer_backend.errors import UserError
from trainer_backend.recipe import samples

HELD_OUT = ("held_out", "heldout", "validation", "valid", "val", "eval", "test", "dev")
DATASET_ID = re.compile(r"[0-9a-f]{16}")


def resolve_data(  # noqa: PLR0913 - the options of the command line
    home: Path,
    data: str | Sequence[str],
    *,
    options: ReadOptions = DEFAULT,
    columns: Mapping[str, str] | None = None,
    chosen: bool = False,
    config: str | None = None,
    split: str = "train",
    max_rows: int | None = None,
    on_download: downloads.Progress = downloads.silent,
    on_progress: Progress | None = None,
) -> StoredDataset:
    """The dataset that DATA means, stored if it is not stored yet.

    Several files are read as one. A folder holds one data file, or a train file and a held-out file
    (as `prepare` writes them). `columns` gives columns their roles, {role: column}; `chosen` trains
    on the chosen answers of preference data. `config` and `split` are for Hub ids. Raises UserError
    for columns that are not there and when DATA means nothing.
    """
    mapping = mapping_of(columns, "--columns") if columns else None
    names = [data] if isinstance(data, str) else list(data)
    paths = [Path(name).expanduser() for name in names]
    read = partial(
        create_dataset,
        home,
        options=options,
        max_rows=max_rows,
        on_progress=on_progress,
        mapping=mapping,
        chosen=chosen,
    )
    if len(paths) == 1 and paths[0].is_dir():
        train, *held_out = _files_in(paths[0])
        dataset = read(train)
        return with_held_out(home, dataset.id, read(held_out[0]).id) if held_out else dataset
    if len(paths) > 1 or paths[0].is_file():
        return read([_a_file(path) for path in paths])
    name = names[0]
    if any(sample.id == name for sample in samples()):
        return _remapped(home, create_from_sample(home, name), mapping, chosen)
    if DATASET_ID.fullmatch(name) and (home / "datasets" / name / "meta.json").is_file():
        return _remapped(home, open_dataset(home, name), mapping, chosen)
    if is_hub_id(name) and paths[0].suffix.lower() not in UPLOAD_SUFFIXES:
        part: dict[str, Any] = {"config": config, "split": split, "max_rows": max_rows}
        how: dict[str, Any] = {"mapping": mapping, "chosen": chosen, "on_download": on_download}
        return create_from_hub(home, name, **part, **how, on_progress=on_progress)
    raise _nothing_like(name)


def _remapped(
    home: Path, dataset: StoredDataset, mapping: ColumnMapping | None, chosen: bool
) -> StoredDataset:
    """A stored dataset with the columns asked for."""
    if mapping is None and not chosen:
        return dataset
    mapping = mapping or dataset.chosen
    if mapping is None:
        raise UserError(
            "No chosen answers are known of this dataset.",
            dataset.name,
            "Leave --chosen out, or name its columns with --columns.",
        )
    return remap_dataset(home, dataset.id, mapping)


def _nothing_like(name: str) -> UserError:
    known = ", ".join(sample.id for sample in samples())
    return UserError(
        "There is no such file, folder, sample or dataset.",
        name or "DATA",
        f"Give the path of a data file, or one of the samples: {known or 'none'}.",
    )


def _a_file(path: Path) -> Path:
    if not path.is_file():
        fix = "Check the spelling. Several names must all be files."
        raise UserError("There is no such file.", str(path), fix)
    return path


def _files_in(folder: Path) -> list[Path]:
    """The only data file of a folder, or its train file and its held-out file."""
    found = sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.name.lower().removesuffix(".gz").endswith(SUFFIXES)
    )
    train = [path for path in found if path.name.lower().startswith("train.")]
    held_out = [path for path in found if path.name.lower().partition(".")[0] in HELD_OUT]
    if len(found) == 1 or (len(found), len(train), len(held_out)) == (2, 1, 1):
        return train + held_out if train else found
    names = ", ".join(path.name for path in found[:5])
    raise UserError(
        f"The folder holds {len(found)} data files ({names})."
        if found
        else "The folder holds no data file.",
        str(folder),
        f"Name the file you want, or all files to read as one ({', '.join(SUFFIXES)}).",
    )
