"""Making datasets from files, typed rows, samples and Hub ids, and the door to all that is stored.

What a stored dataset can tell is stored_dataset.py; versions made from one are versions.py,
held_out.py and mixes.py; taking one out or away is downloads.py and removal.py.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from trainer_backend.data import row_pages
from trainer_backend.data.dataset_writer import Findings
from trainer_backend.data.downloads import download_dataset
from trainer_backend.data.files import SUFFIXES, Progress, open_rows
from trainer_backend.data.fingerprint import content_hash
from trainer_backend.data.formats import Mapping, check_mapping
from trainer_backend.data.held_out import with_held_out
from trainer_backend.data.hub import download_hub_data, is_hub_id
from trainer_backend.data.json_values import BadJSON, cell_text, check_strings, parse, to_json
from trainer_backend.data.making import Making, counted, label, make, next_version
from trainer_backend.data.mixes import mix_datasets
from trainer_backend.data.read_options import DEFAULT, ReadOptions
from trainer_backend.data.removal import delete_dataset
from trainer_backend.data.stored_dataset import StoredDataset, list_datasets, open_dataset
from trainer_backend.data.versions import apply_fixes, edit_rows, upload_of
from trainer_backend.errors import UserError
from trainer_backend.presets import samples

__all__ = [
    "StoredDataset",
    "apply_fixes",
    "create_dataset",
    "create_from_rows",
    "create_from_sample",
    "delete_dataset",
    "download_dataset",
    "edit_rows",
    "label",
    "list_datasets",
    "mix_datasets",
    "open_dataset",
    "remap_dataset",
    "resolve_data",
    "upload_of",
    "with_held_out",
]
DATASET_ID = re.compile(r"[0-9a-f]{16}")


def create_dataset(  # noqa: PLR0913 - what a person can choose when data is loaded
    home: Path,
    files: Path | Sequence[Path],
    *,
    name: str | None = None,
    mapping: Mapping | None = None,
    options: ReadOptions = DEFAULT,
    system_prompt: str = "",
    source: dict | None = None,
    on_progress: Progress | None = None,
    on_findings: Findings | None = None,
) -> StoredDataset:
    """Read, understand, check and store one file or several; the same again is the same dataset.

    `source` says more of where the files come from. `on_findings` is told (problems, first rows) as
    soon as the first rows are understood.
    """
    paths = [Path(files)] if isinstance(files, str | Path) else [Path(file) for file in files]
    rows = open_rows(
        paths[0] if len(paths) == 1 else paths, options=options, on_progress=on_progress
    )
    known = [{"name": label(path.name), "bytes": path.stat().st_size} for path in paths]
    making = Making(
        name=name or _name_of(paths),
        content=content_hash(paths),
        num_bytes=sum(one["bytes"] for one in known),
        kinds=tuple("".join(path.suffixes[-2:]).lower() for path in paths),
        options=_chosen(options),
        mapping=mapping,
        system_prompt=system_prompt.strip(),
        said={"source": {"files": known, **(source or {})}, "notes": rows.notes},
    )
    return make(home, rows, making, on_findings)


def _name_of(paths: list[Path]) -> str:
    more = len(paths) - 1
    return paths[0].name + (f" and {more} more" if more else "")


def _chosen(options: ReadOptions) -> dict:
    """The options that differ from the default: an option of a later version changes no old id."""
    default = asdict(ReadOptions())
    return {name: value for name, value in asdict(options).items() if value != default[name]}


def create_from_rows(home: Path, rows: list[dict], *, name: str) -> StoredDataset:
    """Store rows typed or pasted into a table; rows with nothing in them (or NaN) are left out."""
    typed = [{name: "" if cell != cell else cell for name, cell in row.items()} for row in rows]
    filled = [row for row in typed if any(cell_text(cell).strip() for cell in row.values())]
    if not filled:
        raise UserError(
            "There are no rows.", "the table", "Fill in at least one prompt and its answer."
        )
    lines = [to_json(row) for row in filled]
    content = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
    said = {"source": {"typed": True}}
    making = Making(name, content, sum(map(len, lines)), kinds=("typed",), said=said)
    return make(home, _typed_rows(lines, name), making)


def _typed_rows(lines: list[str], name: str) -> Iterator[tuple[int, dict]]:
    for number, line in enumerate(lines, start=1):
        try:
            check_strings(row := parse(line))
        except BadJSON as error:
            raise UserError(error.what, f"{name}, row {number}", error.fix) from None
        yield number, row


def create_from_sample(home: Path, sample_id: str) -> StoredDataset:
    """Store a bundled sample, or return it if it is stored already."""
    sample = next((one for one in samples() if one.id == sample_id), None)
    if sample is None:
        known = ", ".join(one.id for one in samples())
        raise UserError(
            f"There is no sample “{sample_id[:60]}”.", "samples", f"Use one of: {known}."
        )
    path = sample.path
    making = Making(
        name=sample.title,
        content=content_hash([path]),
        num_bytes=path.stat().st_size,
        kinds=("sample",),
        said={"sample": sample.id, "source": {"sample": sample.id}},
    )
    return make(home, open_rows(path), making)


def remap_dataset(
    home: Path,
    dataset_id: str,
    mapping: Mapping,
    *,
    system_prompt: str | None = None,
    on_progress: Progress | None = None,
) -> StoredDataset:
    """The same rows under the columns (and system prompt) a user chose, as a version of its own."""
    old = open_dataset(home, dataset_id)
    prompt = old.system_prompt if system_prompt is None else system_prompt.strip()
    if old.mapping == mapping and old.system_prompt == prompt:
        return old
    check_mapping(mapping, old.columns, old.name)
    before = old
    if old.step == "mapping" and (home / "datasets" / old.parent / "meta.json").is_file():
        before = open_dataset(home, old.parent)  # a second choice takes the place of the first
    making = next_version(before, "mapping", {}, mapping=mapping, system_prompt=prompt)
    rows = row_pages.iter_rows(old.dir / "rows.parquet")
    return make(home, counted(rows, old.num_rows, on_progress), making)


def resolve_data(  # noqa: PLR0913 - what the command line can say of its data
    home: Path,
    data: str | Sequence[str],
    *,
    options: ReadOptions = DEFAULT,
    config: str | None = None,
    split: str = "train",
    max_rows: int | None = None,
    on_progress: Progress | None = None,
) -> StoredDataset:
    """DATA of the command line: files, a folder of one, a sample, a dataset id or a Hub id."""
    several = [data] if isinstance(data, str) else list(data)
    if len(several) > 1:
        return create_dataset(home, list(map(_a_file, several)), options=options)
    data = several[0]
    path = Path(data).expanduser()
    if path.is_file() or path.is_dir():
        file = _only_file(path) if path.is_dir() else path
        return create_dataset(home, file, options=options, on_progress=on_progress)
    if any(sample.id == data for sample in samples()):
        return create_from_sample(home, data)
    if DATASET_ID.fullmatch(data) and (home / "datasets" / data / "meta.json").is_file():
        return open_dataset(home, data)
    if is_hub_id(data) and path.suffix.lower() not in SUFFIXES:
        return create_dataset(home, download_hub_data(data), name=data)
    known = ", ".join(sample.id for sample in samples())
    raise UserError(
        "There is no such file, folder, sample or dataset.",
        data,
        f"Give the path of a data file, or one of the samples: {known or 'none'}.",
    )


def _a_file(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.is_file():
        fix = "Several of them must all be files. Check the spelling."
        raise UserError("There is no such file.", name, fix)
    return path


def _only_file(folder: Path) -> Path:
    found = sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.name.lower().removesuffix(".gz").endswith(SUFFIXES)
    )
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found[:5])
    raise UserError(
        f"The folder holds {len(found)} data files ({names})."
        if found
        else "The folder holds no data file.",
        str(folder),
        f"Give the path of one file ({', '.join(SUFFIXES)}).",
    )
