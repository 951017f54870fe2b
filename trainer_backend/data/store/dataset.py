"""A dataset on disk, opened: its facts, its pages, its examples, its split, the versions before it.

It never changes once it has its id. Making one is making.py; the pages themselves are row_pages.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainer_backend.data.formats import ColumnMapping, Example
from trainer_backend.data.store import pages
from trainer_backend.data.store.fingerprint import VERSION, hash_of_examples
from trainer_backend.data.store.pages import (
    LENGTHS,
    answer_length,
    iter_examples,
    save_array,
    save_lengths,
)
from trainer_backend.data.store.split import kin_of, split_indices
from trainer_backend.errors import Problem, UserError
from trainer_backend.home import check_id, read_json, write_json


def upgraded(folder: Path, meta: dict) -> dict:
    """The facts of meta.json as this version knows them; an older folder is brought up to date."""
    if meta.get("format_version", 2) >= VERSION:
        return meta
    if not (folder / LENGTHS).is_file():
        save_lengths(folder, _lengths(folder))
    meta = meta | {
        "format_version": VERSION,
        "hash": hash_of_examples(folder / "examples.parquet"),
        "source": {"files": [{"name": meta["name"], "bytes": meta["num_bytes"]}]},
    }
    write_json(folder / "meta.json", meta)
    return meta


def _lengths(folder: Path) -> np.ndarray:
    """int64 (3, rows): row number, characters of the row, characters of its answer."""
    rows = pq.read_table(folder / "rows.parquet", columns=["row"])["row"].to_numpy()
    with pq.ParquetFile(folder / "rows.parquet") as file:
        sizes = [pc.utf8_length(batch["cells"]) for batch in file.iter_batches(columns=["cells"])]
    characters = np.concatenate([size.to_numpy() for size in sizes])
    answers = np.zeros(len(rows), np.int64)
    for example in iter_examples(folder / "examples.parquet"):
        answers[np.searchsorted(rows, example.row)] = answer_length(example)
    return np.stack([rows, characters.astype(np.int64), answers])


STEPS = {
    "upload": "Upload",
    "mapping": "Columns chosen",
    "fixes": "Fixes",
    "edits": "Edits",
    "held_out": "Own held-out file",
    "mix": "Mix",
}  # how a version came to be, and how it is called


@dataclass(frozen=True)
class StoredDataset:
    """A dataset on disk. Rows keep the numbers of the upload; examples are the rows that train."""

    id: str
    dir: Path
    name: str
    format: str
    sentence: str
    sure: bool
    columns: list[str]
    mapping: ColumnMapping | None
    num_rows: int
    num_examples: int
    problems: list[Problem]
    sample: str | None = None
    suggestion: ColumnMapping | None = None  # what the pickers begin with when it is not sure
    notes: list[str] = field(default_factory=list)  # encoding, delimiter and layout, if unusual
    content: str = ""  # sha256 of the uploaded bytes
    num_bytes: int = 0
    created_at: str = ""
    hash: str = ""  # sha256 over the examples as trained
    source: dict = field(default_factory=dict)  # {"files": [{"name", "bytes"}], "hub"?: {...}}
    kinds: list[str] = field(default_factory=list)  # endings of the files
    options: dict = field(default_factory=dict)  # the ReadOptions that differ from the default
    system_prompt: str = ""
    step: str = "upload"  # one of STEPS
    parent: str | None = None  # id of the version this was made from
    version: int = 1
    fixes: dict[str, str] = field(default_factory=dict)  # problem code -> switch, of this step
    done: str = ""  # what this step did, in a sentence
    held_out: dict | None = None  # {"dataset_id", "name", "first", "count", "overlap"}
    parts: list[dict] = field(default_factory=list)  # of a mix: {"dataset_id", "name", ...}
    format_version: int = 2

    @property
    def label(self) -> str:
        """The name with its version: “chats.csv”, “chats.csv, version 3”."""
        return self.name if self.version == 1 else f"{self.name}, version {self.version}"

    @property
    def examples_path(self) -> Path:
        """Parquet with row, messages (JSON), text, tools (JSON), images (JSON), digest."""
        return self.dir / "examples.parquet"

    def page(
        self,
        start: int,
        count: int = 25,
        query: str = "",
        rows_only: Sequence[int] | None = None,
        sort: str = "row",
        cut: int | None = None,
    ) -> tuple[list[tuple[int, dict]], int]:
        """Rows as (number, {column: text}) from the `start`th match on, and how many match.

        `sort` is one of lengths.SORTS: row, longest, shortest, answer (longest answer first).
        `cut` is how many characters of a text are enough.
        """
        return pages.page(self.dir, pages.Find(query, rows_only, sort), start, count, cut)

    def place_of(
        self,
        row: int,
        query: str = "",
        rows_only: Sequence[int] | None = None,
        sort: str = "row",
    ) -> int | None:
        """Which match of page() a row is, from 0; None if it is not among them."""
        return pages.place_of(self.dir, pages.Find(query, rows_only, sort), row)

    def rows_of(self, problem_index: int) -> list[int]:
        """All row numbers a problem touches (Problem.rows holds only the first ones)."""
        return pages.rows_of_problem(self.dir / "problems.parquet", problem_index)

    def rows_of_code(self, code: str) -> list[int]:
        """All row numbers the problems with this code touch, ascending."""
        wanted = [at for at, problem in enumerate(self.problems) if problem.code == code]
        return pages.rows_of_problems(self.dir / "problems.parquet", wanted).tolist()

    def rows_with_problems(self) -> np.ndarray:
        """The numbers of all rows that any problem touches, ascending; for page()."""
        return pages.rows_of_problems(self.dir / "problems.parquet", None)

    def example(self, row: int) -> Example | None:
        """The example a row became; None if the row was left out (see problems)."""
        return pages.example_of_row(self.examples_path, row)

    def examples(self, indices: Sequence[int] | None = None) -> Iterator[Example]:
        """Examples in order, all or those at `indices` (as split() gives them)."""
        return pages.iter_examples(self.examples_path, indices)

    def split(self, eval_fraction: float, seed: int) -> tuple[list[int], list[int]]:
        """Ascending indices into the examples: (train, held out). An own held-out file wins.

        Rows that are the same, or nearly, are on one side. Which examples are held out is stored
        with the dataset the first time it is asked.
        """
        if self.held_out:
            first = self.held_out["first"]
            return list(range(first)), list(range(first, self.num_examples))
        stored = self.dir / f"held-out-{eval_fraction:g}-{seed}.npy"
        if stored.is_file():
            held = np.load(stored)
            return np.delete(np.arange(self.num_examples), held).tolist(), held.tolist()
        train, held = split_indices(kin_of(self.dir), eval_fraction, seed)
        save_array(stored, np.asarray(held, np.int64))
        return train, held

    def held_out_rows(self, eval_fraction: float, seed: int) -> list[int]:
        """The numbers of the rows that are held out, to show them; for page()."""
        held = self.split(eval_fraction, seed)[1]
        rows = pq.read_table(self.examples_path, columns=["row"])["row"].to_numpy()
        return rows[held].tolist()

    def check_unchanged(self, pinned: str) -> None:
        """Refuse examples on disk that are not the ones of the pinned hash (UserError).

        Reads all of them: about a second for a million rows.
        """
        found = self.hash if self.hash != pinned else hash_of_examples(self.examples_path)
        if pinned and found != pinned:
            raise UserError(
                f"The data changed: sha256 {found[:12]}… now, {pinned[:12]}… when the run began.",
                f"dataset {self.name}",
                "Start a new run from these weights with the data as it is now.",
                code="dataset_changed",
            )

    def lineage(self) -> list[dict]:
        """The versions from the upload to this one, oldest first.

        Each is {"id", "step", "what", "done", "rows", "here"}; a deleted version ends the list.
        """
        chain, one = [], self
        while one is not None:
            chain.append(_as_step(one, one is self))
            before = self.dir.parent / one.parent if one.parent else None
            known = before is not None and (before / "meta.json").is_file()
            one = open_dataset(self.dir.parent.parent, one.parent) if known else None
        return chain[::-1]


def _as_step(dataset: StoredDataset, here: bool) -> dict:
    return {
        "id": dataset.id,
        "step": dataset.step,
        "what": STEPS.get(dataset.step, dataset.step),
        "done": dataset.done or dataset.sentence,
        "rows": dataset.num_rows,
        "here": here,
    }


def open_dataset(home: Path, dataset_id: str) -> StoredDataset:
    """The dataset with this id; UserError if there is none."""
    folder = home / "datasets" / check_id(dataset_id, "dataset")
    meta = read_json(folder / "meta.json")
    if meta is None:
        raise UserError(
            "There is no such dataset.", f"dataset id {dataset_id}", "Load the data again."
        )
    meta = upgraded(folder, meta)
    meta["problems"] = [Problem(**problem) for problem in meta["problems"]]
    for key in ("mapping", "suggestion"):
        meta[key] = ColumnMapping(**meta[key]) if meta[key] else None
    return StoredDataset(dir=folder, **meta)


def list_datasets(home: Path) -> list[StoredDataset]:
    """All stored datasets, newest first."""
    names = [path.parent.name for path in (home / "datasets").glob("*/meta.json")]
    found = []
    for name in names:
        try:
            found += [open_dataset(home, name)] if name[0] != "." else []
        except UserError:
            continue  # deleted in this moment, or a folder that is none of ours
    return sorted(found, key=lambda dataset: (dataset.created_at, dataset.id), reverse=True)
