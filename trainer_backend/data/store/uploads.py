"""Datasets from what a person brings: files, typed rows, samples, Hub ids; other columns chosen.

How rows are read is files.py, what they mean is formats.py, the pass is dataset_writer.py.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from trainer_backend.data.formats import ColumnMapping, check_mapping
from trainer_backend.data.json_values import BadJSON, cell_text, check_strings, parse, to_json
from trainer_backend.data.readers import Progress, download_hub_data, hub_choices, open_rows
from trainer_backend.data.readers.options import DEFAULT, ReadOptions
from trainer_backend.data.store import pages
from trainer_backend.data.store.build import (
    Making,
    checked_prompt,
    counted,
    label,
    make,
    next_version,
)
from trainer_backend.data.store.dataset import StoredDataset, open_dataset
from trainer_backend.data.store.fingerprint import content_hash
from trainer_backend.data.store.writer import Findings
from trainer_backend.errors import UserError
from trainer_backend.recipe import samples


def create_dataset(  # noqa: PLR0913 - what a person can choose when data is loaded
    home: Path,
    files: Path | Sequence[Path],
    *,
    name: str | None = None,
    mapping: ColumnMapping | None = None,
    options: ReadOptions = DEFAULT,
    system_prompt: str = "",
    max_rows: int | None = None,
    source: dict | None = None,
    on_progress: Progress | None = None,
    on_findings: Findings | None = None,
) -> StoredDataset:
    """Read, understand, check and store one file or several; the same again is the same dataset.

    With `max_rows` only the first rows are read. `source` says more of where the files come from.
    `on_findings` is told (problems, first rows) as soon as the first rows are understood.
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
        options=_chosen(options) | ({"max_rows": max_rows} if max_rows else {}),
        mapping=mapping,
        system_prompt=checked_prompt(system_prompt),
        said={"source": {"files": known, **(source or {})}, "notes": rows.notes},
    )
    return make(home, islice(rows, max_rows), making, on_findings)


def _name_of(paths: list[Path]) -> str:
    more = len(paths) - 1
    return paths[0].name + (f" and {more} more" if more else "")


def _chosen(options: ReadOptions) -> dict:
    """The options that differ from the default: an option of a later version changes no old id."""
    default = asdict(ReadOptions())
    return {name: value for name, value in asdict(options).items() if value != default[name]}


def create_from_hub(  # noqa: PLR0913 - what a person can choose of a Hub dataset
    home: Path,
    repo_id: str,
    *,
    config: str | None = None,
    split: str = "train",
    revision: str | None = None,
    max_rows: int | None = None,
    on_progress: Progress | None = None,
    on_findings: Findings | None = None,
) -> StoredDataset:
    """Fetch one split of a Hub dataset at one commit, which is noted, and store its rows.

    Raises UserError: offline, unknown, gated, no such config or split, nothing readable.
    """
    pinned = hub_choices(repo_id, revision=revision).revision
    chosen = {"config": config, "split": split, "revision": pinned, "max_rows": max_rows}
    files = download_hub_data(repo_id, **chosen)
    return create_dataset(
        home,
        files,
        name=repo_id if split == "train" else f"{repo_id} ({split})",
        max_rows=max_rows,
        source={"hub": {"id": repo_id, **chosen}},
        on_progress=on_progress,
        on_findings=on_findings,
    )


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
    mapping: ColumnMapping,
    *,
    system_prompt: str | None = None,
    on_progress: Progress | None = None,
) -> StoredDataset:
    """The same rows under the columns (and system prompt) a user chose, as a version of its own."""
    old = open_dataset(home, dataset_id)
    prompt = old.system_prompt if system_prompt is None else checked_prompt(system_prompt)
    if old.mapping == mapping and old.system_prompt == prompt:
        return old
    check_mapping(mapping, old.columns, old.name)
    before = old
    if old.step == "mapping" and (home / "datasets" / old.parent / "meta.json").is_file():
        before = open_dataset(home, old.parent)  # a second choice takes the place of the first
    making = next_version(before, "mapping", {}, mapping=mapping, system_prompt=prompt)
    rows = pages.iter_rows(old.dir / "rows.parquet")
    return make(home, counted(rows, old.num_rows, on_progress), making)
