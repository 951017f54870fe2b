"""Stored datasets: create, open, page through, split. A dataset never changes once it has its id.

The pass from file to folder is dataset_writer.py; pages of the interface read only through here.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from trainer_backend.data import row_pages
from trainer_backend.data.dataset_writer import content_hash, id_of, write_dataset
from trainer_backend.data.files import SUFFIXES, Progress, open_rows
from trainer_backend.data.formats import Example, Mapping, check_mapping
from trainer_backend.data.hub import download_hub_data, is_hub_id
from trainer_backend.data.json_values import BadJSON, cell_text, check_strings, parse, to_json
from trainer_backend.data.split import split_indices
from trainer_backend.errors import Problem, UserError
from trainer_backend.home import check_id, read_json
from trainer_backend.presets import samples

DATASET_ID = re.compile(r"[0-9a-f]{16}")
BIDI_MARKS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@dataclass(frozen=True)
class StoredDataset:
    """A dataset on disk. Rows count from 1 as in the file; examples are the rows that train."""

    id: str
    dir: Path
    name: str
    format: str
    sentence: str
    sure: bool
    columns: list[str]
    mapping: Mapping | None
    num_rows: int
    num_examples: int
    problems: list[Problem]
    sample: str | None = None
    suggestion: Mapping | None = None  # what the pickers begin with when it is not sure
    notes: list[str] = field(default_factory=list)  # encoding, delimiter and layout, if unusual
    content: str = ""  # sha256 of the uploaded bytes
    num_bytes: int = 0
    created_at: str = ""

    @property
    def examples_path(self) -> Path:
        """Parquet with row, messages (JSON), text, tools (JSON), digest."""
        return self.dir / "examples.parquet"

    def page(
        self, start: int, count: int = 25, query: str = "", rows_only: Sequence[int] | None = None
    ) -> tuple[list[tuple[int, dict]], int]:
        """Rows as (number, {column: text}) from the `start`th match on, and how many match."""
        path = self.dir / "rows.parquet"
        return row_pages.page(path, start, count, query, rows_only)

    def rows_of(self, problem_index: int) -> list[int]:
        """All row numbers a problem touches (Problem.rows holds only the first ones)."""
        return row_pages.rows_of_problem(self.dir / "problems.parquet", problem_index)

    def example(self, row: int) -> Example | None:
        """The example a row became; None if the row was left out (see problems)."""
        return row_pages.example_of_row(self.examples_path, row)

    def examples(self, indices: Sequence[int] | None = None) -> Iterator[Example]:
        """Examples in order, all or those at `indices` (as split() gives them)."""
        return row_pages.iter_examples(self.examples_path, indices)

    def split(self, eval_fraction: float, seed: int) -> tuple[list[int], list[int]]:
        """Ascending indices into the examples: (train, held out)."""
        digests = pq.read_table(self.examples_path, columns=["digest"])["digest"].to_numpy()
        return split_indices(digests, eval_fraction, seed)


def create_dataset(
    home: Path,
    file: Path,
    *,
    name: str | None = None,
    mapping: Mapping | None = None,
    on_progress: Progress | None = None,
) -> StoredDataset:
    """Read, understand, check and store a file; the same content again is the same dataset."""
    file = Path(file)
    rows = open_rows(file, on_progress=on_progress)
    facts = _file_facts(file, name or file.name, mapping)
    return _stored(home, rows, facts, mapping, rows.notes)


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
    facts = _facts(content, sum(map(len, lines)), name, None)
    return _stored(home, _typed_rows(lines, name), facts, None, [])


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
    facts = _file_facts(sample.path, sample.title, None) | {"sample": sample.id}
    return _stored(home, open_rows(sample.path), facts, None, [])


def remap_dataset(home: Path, dataset_id: str, mapping: Mapping) -> StoredDataset:
    """The same rows under the columns a user chose, as a dataset of its own."""
    old = open_dataset(home, dataset_id)
    if old.mapping == mapping:
        return old
    check_mapping(mapping, old.columns, old.name)
    facts = _facts(old.content, old.num_bytes, old.name, mapping) | {"sample": old.sample}
    return _stored(home, row_pages.iter_rows(old.dir / "rows.parquet"), facts, mapping, old.notes)


def _file_facts(file: Path, name: str, mapping: Mapping | None) -> dict:
    return _facts(content_hash(file), file.stat().st_size, name, mapping)


def _facts(content: str, num_bytes: int, name: str, mapping: Mapping | None) -> dict:
    return {
        "id": id_of(content, mapping),
        "name": label(name),
        "content": content,
        "num_bytes": num_bytes,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _stored(
    home: Path, rows: Iterable, facts: dict, mapping: Mapping | None, notes: list[str]
) -> StoredDataset:
    if not (home / "datasets" / facts["id"] / "meta.json").is_file():
        write_dataset(home, rows, facts | {"notes": notes}, mapping)
    return open_dataset(home, facts["id"])


def label(name: str) -> str:
    """A name as a label: one line, no invisible or direction-changing letters, not too long."""
    shown = "".join(
        letter
        for letter in name
        if unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp") and letter not in BIDI_MARKS
    )
    return shown.strip()[:120] or "data"


def open_dataset(home: Path, dataset_id: str) -> StoredDataset:
    """The dataset with this id; UserError if there is none."""
    folder = home / "datasets" / check_id(dataset_id, "dataset")
    meta = read_json(folder / "meta.json")
    if meta is None:
        raise UserError(
            "There is no such dataset.", f"dataset id {dataset_id}", "Load the data again."
        )
    meta["problems"] = [
        Problem(**problem | {"rows": tuple(problem["rows"])}) for problem in meta["problems"]
    ]
    for key in ("mapping", "suggestion"):
        meta[key] = Mapping(**meta[key]) if meta[key] else None
    return StoredDataset(dir=folder, **meta)


def list_datasets(home: Path) -> list[StoredDataset]:
    """All stored datasets, newest first."""
    folders = (home / "datasets").glob("*/meta.json")
    found = [open_dataset(home, path.parent.name) for path in folders if path.parent.name[0] != "."]
    return sorted(found, key=lambda dataset: (dataset.created_at, dataset.id), reverse=True)


def resolve_data(home: Path, data: str) -> StoredDataset:
    """DATA of the command line: a file, a folder of one, a sample, a dataset id or a Hub id."""
    path = Path(data).expanduser()
    if path.is_file():
        return create_dataset(home, path)
    if path.is_dir():
        return create_dataset(home, _only_file(path))
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
