"""Makes datasets from uploaded files, typed rows, samples and Hub ids, or with other columns.

How files are read and what their rows mean is not known here.
"""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from trainer_backend import downloads
from trainer_backend.data.formats import ColumnMapping, check_mapping, detect_format, first_rows
from trainer_backend.data.formats.columns.nested import find_nested, opened
from trainer_backend.data.formats.columns.threads import chained
from trainer_backend.data.json_values import BadJSON, cell_text, check_strings, parse, to_json
from trainer_backend.data.readers import Progress, open_rows
from trainer_backend.data.readers.hub import download_hub_data, hub_choices
from trainer_backend.data.readers.options import DEFAULT, ReadOptions
from trainer_backend.data.store import pages
from trainer_backend.data.store.build import (
    Plan,
    build,
    checked_prompt,
    counted,
    label,
    next_version,
)
from trainer_backend.data.store.dataset import StoredDataset, open_dataset
from trainer_backend.data.store.fingerprint import content_hash
from trainer_backend.data.store.pages import NumberedRow
from trainer_backend.data.store.writer import OnFindings
from trainer_backend.errors import UserError
from trainer_backend.recipe import samples

OPEN_TO = ("columns_unclear", "unused_text")  # findings that columns inside columns may settle


def create_dataset(  # noqa: PLR0913 - the choices when data is loaded
    home: Path,
    files: Path | Sequence[Path],
    *,
    name: str | None = None,
    mapping: ColumnMapping | None = None,
    options: ReadOptions = DEFAULT,
    chosen: bool = False,
    system_prompt: str = "",
    max_rows: int | None = None,
    source: Mapping[str, Any] | None = None,
    on_progress: Progress | None = None,
    on_findings: OnFindings | None = None,
) -> StoredDataset:
    """Read, map, check and store one or several files; the same input is the same dataset.

    `chosen`: of preference data train on the chosen answers, unless a mapping says otherwise. With
    `max_rows` only the first rows are read. `source` adds facts about where the files come
    from. on_findings(problems, first rows) is called as soon as the first rows are mapped. Raises
    UserError for files that cannot be read or hold no usable row.
    """
    paths = [Path(files)] if isinstance(files, str | Path) else [Path(file) for file in files]
    rows = open_rows(
        paths[0] if len(paths) == 1 else paths, options=options, on_progress=on_progress
    )
    known = [{"name": label(path.name), "bytes": path.stat().st_size} for path in paths]
    plan = Plan(
        name=name or _name_of(paths),
        content=content_hash(paths),
        num_bytes=sum(path.stat().st_size for path in paths),
        kinds=tuple("".join(path.suffixes[-2:]).lower() for path in paths),
        options=_chosen(options) | ({"max_rows": max_rows} if max_rows else {}),
        mapping=mapping,
        chosen=chosen,
        system_prompt=checked_prompt(system_prompt),
        extra={"source": {"files": known, **(source or {})}, "notes": rows.notes},
    )
    read = _as_examples(islice(rows, max_rows), mapping, rows.notes)
    return build(home, read, plan, on_findings)


def _as_examples(
    rows: Iterator[NumberedRow], mapping: ColumnMapping | None, notes: list[str]
) -> Iterator[NumberedRow]:
    """The rows; unless columns of theirs are chosen, chained into conversations if each is one
    message, and with small objects as columns. What was done becomes a note after the last row.
    """
    first = first_rows(rows)
    everything = itertools.chain(first, rows)
    columns = {name for _, row in first for name in row}
    if mapping is not None and set(mapping.roles.values()) <= columns:
        return everything
    if talks := chained(everything, first, notes.append):
        return talks
    nested = find_nested([row for _, row in first])
    if nested and detect_format([row for _, row in first]).code in OPEN_TO:
        return opened(everything, nested, notes.append)
    return everything


def _name_of(paths: list[Path]) -> str:
    more = len(paths) - 1
    return paths[0].name + (f" and {more} more" if more else "")


def _chosen(options: ReadOptions) -> dict[str, Any]:
    """The options that differ from the default, so that new options do not change old ids."""
    default = asdict(ReadOptions())
    return {name: value for name, value in asdict(options).items() if value != default[name]}


def create_from_hub(  # noqa: PLR0913 - the choices of a Hub dataset
    home: Path,
    repo_id: str,
    *,
    config: str | None = None,
    split: str = "train",
    revision: str | None = None,
    max_rows: int | None = None,
    mapping: ColumnMapping | None = None,
    chosen: bool = False,
    on_download: downloads.Progress = downloads.silent,
    on_progress: Progress | None = None,
    on_findings: OnFindings | None = None,
) -> StoredDataset:
    """Download one split of a Hub dataset, pinned to a commit, and store its rows.

    Raises UserError when the Hub is offline, the dataset is unknown or gated, there is no such
    config or split, or nothing can be read.
    """
    pinned = hub_choices(repo_id, revision=revision).revision
    part: dict[str, Any] = {"config": config, "split": split, "revision": pinned}
    part["max_rows"] = max_rows
    files = download_hub_data(repo_id, **part, on_download=on_download)
    return create_dataset(
        home,
        files,
        name=repo_id if split == "train" else f"{repo_id} ({split})",
        mapping=mapping,
        chosen=chosen,
        max_rows=max_rows,
        source={"hub": {"id": repo_id, **part}},
        on_progress=on_progress,
        on_findings=on_findings,
    )


def create_from_rows(home: Path, rows: list[dict], *, name: str) -> StoredDataset:
    """Store rows typed or pasted into a table, without empty rows. Raises UserError if all are."""
    typed = [{name: "" if cell != cell else cell for name, cell in row.items()} for row in rows]
    filled = [row for row in typed if any(cell_text(cell).strip() for cell in row.values())]
    if not filled:
        raise UserError(
            "There are no rows.", "the table", "Fill in at least one prompt and its answer."
        )
    lines = [to_json(row) for row in filled]
    content = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
    extra = {"source": {"typed": True}}
    plan = Plan(name, content, sum(map(len, lines)), kinds=("typed",), extra=extra)
    return build(home, _typed_rows(lines, name), plan)


def _typed_rows(lines: list[str], name: str) -> Iterator[NumberedRow]:
    for number, line in enumerate(lines, start=1):
        try:
            check_strings(row := parse(line))
        except BadJSON as error:
            raise UserError(error.what, f"{name}, row {number}", error.fix) from None
        yield number, row


def create_from_sample(home: Path, sample_id: str) -> StoredDataset:
    """Store a bundled sample, or open it if stored. Raises UserError for an unknown id."""
    sample = next((one for one in samples() if one.id == sample_id), None)
    if sample is None:
        known = ", ".join(one.id for one in samples())
        raise UserError(
            f"There is no sample “{sample_id[:60]}”.", "samples", f"Use one of: {known}."
        )
    path = sample.path
    plan = Plan(
        name=sample.title,
        content=content_hash([path]),
        num_bytes=path.stat().st_size,
        kinds=("sample",),
        extra={"sample": sample.id, "source": {"sample": sample.id}},
    )
    return build(home, open_rows(path), plan)


def remap_dataset(
    home: Path,
    dataset_id: str,
    mapping: ColumnMapping,
    *,
    system_prompt: str | None = None,
    on_progress: Progress | None = None,
) -> StoredDataset:
    """A version with other column roles or system prompt. Raises UserError if they do not fit."""
    old = open_dataset(home, dataset_id)
    prompt = old.system_prompt if system_prompt is None else checked_prompt(system_prompt)
    if old.mapping == mapping and old.system_prompt == prompt:
        return old
    check_mapping(mapping, old.columns, old.name)
    before = old.parent_version() if old.step == "mapping" else None  # replaces an earlier choice
    plan = next_version(before or old, "mapping", {}, mapping=mapping, system_prompt=prompt)
    rows = pages.iter_rows(old.dir / "rows.parquet")
    return build(home, counted(rows, old.num_rows, on_progress), plan)
