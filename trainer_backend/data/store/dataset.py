"""A stored dataset, opened from its folder: facts, pages, examples, split, earlier versions.

Its rows never change once it has an id. How it was made is not known here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainer_backend.data.checks import rows_text
from trainer_backend.data.formats import ColumnMapping, Example
from trainer_backend.data.store import pages
from trainer_backend.data.store.fingerprint import VERSION, hash_of_examples
from trainer_backend.data.store.split import HeldOut, duplicate_groups, split_indices
from trainer_backend.errors import Problem, UserError
from trainer_backend.home import check_id, read_json, write_json

STEPS = {
    "upload": "Upload",
    "mapping": "Columns chosen",
    "fixes": "Fixes",
    "edits": "Edits",
    "held_out": "Held-out file",
    "mix": "Mix",
    "corrections": "Corrections",
}  # what made a version, and its label


FROM, FROM_ROW = "from", "from_row"  # columns of a mix: the dataset and row a row was taken from
NAMED_ROWS = 5  # rows named in a sentence


class MixPart(TypedDict):
    """One dataset of a mix, and the rows taken from it."""

    dataset_id: str
    name: str
    weight: float
    size: int  # examples it has
    rows: int  # rows it gives; more than `size` if rows repeat


@dataclass(frozen=True)
class StoredDataset:
    """A stored dataset. Rows keep the numbers of the upload; examples are the rows that train."""

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
    suggestion: ColumnMapping | None = None  # shown in the column pickers when it is not sure
    chosen: ColumnMapping | None = None  # trains on the chosen answers of preference data
    ignored_columns: list[str] = field(default_factory=list)  # nothing of them is trained on
    notes: list[str] = field(default_factory=list)  # encoding, delimiter and layout, if unusual
    content: str = ""  # sha256 of the uploaded bytes
    num_bytes: int = 0
    created_at: str = ""
    hash: str = ""  # sha256 over the examples as trained
    source: dict[str, Any] = field(default_factory=dict)  # {"files": [{"name", "bytes"}], "hub"?}
    kinds: list[str] = field(default_factory=list)  # endings of the files
    options: dict[str, Any] = field(default_factory=dict)  # ReadOptions that are not the default
    system_prompt: str = ""
    step: str = "upload"  # one of STEPS
    parent: str | None = None  # id of the version this was made from
    version: int = 1
    fixes: dict[str, str] = field(default_factory=dict)  # problem code -> switch, of this step
    done: str = ""  # what this step did, in a sentence
    held_out: HeldOut | None = None
    parts: list[MixPart] = field(default_factory=list)  # of a mix
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
        rows_only: Sequence[int] | np.ndarray | None = None,
        sort: str = "row",
        cut: int | None = None,
    ) -> tuple[list[tuple[int, dict[str, str]]], int]:
        """(rows, number of matches): rows as (number, {column: text}) from match `start` on.

        `query` is searched in all cells, ignoring case. `sort` is "row", "longest", "shortest" or
        "answer" (longest answer first). Texts are cut to `cut` characters.
        """
        return pages.page(self.dir, pages.Find(query, rows_only, sort), start, count, cut)

    def place_of(
        self,
        row: int,
        query: str = "",
        rows_only: Sequence[int] | np.ndarray | None = None,
        sort: str = "row",
    ) -> int | None:
        """The index of a row among the matches of page(), from 0; None if it is not among them."""
        return pages.place_of(self.dir, pages.Find(query, rows_only, sort), row)

    def rows_of(self, problem_index: int) -> list[int]:
        """All row numbers of a problem (Problem.rows has only the first ones)."""
        return pages.rows_of_problem(self.dir / "problems.parquet", problem_index)

    def rows_of_code(self, code: str) -> list[int]:
        """All row numbers of the problems with this code, ascending."""
        wanted = [at for at, problem in enumerate(self.problems) if problem.code == code]
        return pages.rows_of_problems(self.dir / "problems.parquet", wanted).tolist()

    def rows_with_problems(self) -> np.ndarray:
        """int64: the numbers of all rows with a problem, ascending; for page()."""
        return pages.rows_of_problems(self.dir / "problems.parquet", None)

    def example(self, row: int) -> Example | None:
        """The example made from a row; None if the row was left out (see problems)."""
        return pages.example_of_row(self.examples_path, row)

    def examples_of(self, rows: Sequence[int]) -> dict[int, Example]:
        """The examples made from rows, by row number; those left out have none."""
        return pages.examples_of_rows(self.examples_path, rows) if rows else {}

    def examples(self, indices: Sequence[int] | None = None) -> Iterator[Example]:
        """All examples in order, or those at `indices` (as split() returns them)."""
        return pages.iter_examples(self.examples_path, indices)

    def split(self, eval_fraction: float, seed: int) -> tuple[list[int], list[int]]:
        """(train, held out) as ascending indices into the examples; a held-out file wins.

        Exact and near duplicates stay on one side. The choice is stored with the dataset on the
        first call.
        """
        train, held = self.split_arrays(eval_fraction, seed)
        if not self.held_out and not self._split_file(eval_fraction, seed).is_file():
            pages.save_array(self._split_file(eval_fraction, seed), held)
        return train.tolist(), held.tolist()

    def split_arrays(self, eval_fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """split() as int64 arrays; nothing is stored, so any share may be asked for."""
        everything = np.arange(self.num_examples, dtype=np.int64)
        if self.held_out:
            return everything[: self.held_out["first"]], everything[self.held_out["first"] :]
        stored = self._split_file(eval_fraction, seed)
        if stored.is_file():
            held = np.load(stored)
        else:
            _, chosen = split_indices(duplicate_groups(self.dir), eval_fraction, seed)
            held = np.asarray(chosen, np.int64)
        return np.delete(everything, held), held

    def _split_file(self, eval_fraction: float, seed: int) -> Path:
        return self.dir / f"held-out-{eval_fraction:g}-{seed}.npy"

    def held_out_rows(self, eval_fraction: float, seed: int) -> list[int]:
        """The numbers of the held-out rows; for page()."""
        held = self.split(eval_fraction, seed)[1]
        return self.row_numbers()[held].tolist()

    def row_numbers(self) -> np.ndarray:
        """int64 [examples]: the number of each example's row, in order."""
        return pq.read_table(self.examples_path, columns=["row"])["row"].to_numpy()

    def in_words(self, rows: Sequence[int] | np.ndarray) -> str:
        """Rows as the file numbers them: “rows 3, 5 and 9”.

        Of a mix or a held-out file, also where the first ones come from.
        """
        origins = [self._origin(int(row)) for row in rows[:NAMED_ROWS]]
        words = rows_text([int(row) for row in rows[:NAMED_ROWS]], len(rows))
        return f"{words} ({'; '.join(filter(None, origins))})" if any(origins) else words

    def _origin(self, row: int) -> str:
        """“row 7 of chats.jsonl” for a row that came from another file; else ""."""
        if self.held_out and row >= self.held_out["row"]:
            return f"row {row - self.held_out['row'] + 1:,} of {self.held_out['name']}"
        place = self.place_of(row) if self.parts else None
        if place is None:
            return ""
        cells = self.page(place, 1)[0][0][1]
        return f"row {cells[FROM_ROW]} of {cells[FROM]}" if FROM in cells else ""

    def check_unchanged(self, pinned: str) -> None:
        """Raise UserError when the examples on disk do not have the pinned hash ("" for none).

        Reads all of them: about a second per million rows.
        """
        found = self.hash if self.hash != pinned else hash_of_examples(self.examples_path)
        if pinned and found != pinned:
            raise UserError(
                f"The data changed: sha256 {found[:12]}… now, {pinned[:12]}… when the run began.",
                f"dataset {self.name}",
                "Start a new run from these weights with the data as it is now.",
                code="dataset_changed",
            )

    def parent_version(self) -> "StoredDataset | None":
        """The version this was made from; None for an upload, or if it was deleted."""
        folder = self.dir.parent
        if self.parent and (folder / self.parent / "meta.json").is_file():
            return open_dataset(folder.parent, self.parent)
        return None

    def lineage(self) -> list[dict[str, Any]]:
        """The versions from the upload to this one, oldest first; it begins after a deleted one.

        Each is {"id", "step", "what", "done", "rows", "here"}.
        """
        chain: list[dict[str, Any]] = []
        one: StoredDataset | None = self
        while one is not None:
            chain.append(_as_step(one, one is self))
            one = one.parent_version()
        return chain[::-1]


def _as_step(dataset: StoredDataset, here: bool) -> dict[str, Any]:
    return {
        "id": dataset.id,
        "step": dataset.step,
        "what": STEPS.get(dataset.step, dataset.step),
        "done": dataset.done or dataset.sentence,
        "rows": dataset.num_rows,
        "here": here,
    }


def open_dataset(home: Path, dataset_id: str) -> StoredDataset:
    """The dataset with this id; older formats are migrated. Raises UserError if there is none."""
    folder = home / "datasets" / check_id(dataset_id, "dataset")
    meta: Any = read_json(folder / "meta.json")
    if meta is None:
        raise UserError(
            "There is no such dataset.", f"dataset id {dataset_id}", "Load the data again."
        )
    meta = _migrate(folder, meta)
    meta["problems"] = [Problem(**problem) for problem in meta["problems"]]
    for key in ("mapping", "suggestion", "chosen"):
        meta[key] = ColumnMapping(**meta[key]) if meta.get(key) else None
    return StoredDataset(dir=folder, **meta)


def list_datasets(home: Path) -> list[StoredDataset]:
    """All stored datasets, newest first."""
    found = []
    for name in [path.parent.name for path in (home / "datasets").glob("*/meta.json")]:
        try:
            found += [open_dataset(home, name)] if name[0] != "." else []
        except UserError:
            continue  # deleted meanwhile, or not one of our folders
    return sorted(found, key=lambda dataset: (dataset.created_at, dataset.id), reverse=True)


def _migrate(folder: Path, meta: dict[str, Any]) -> dict[str, Any]:
    """meta.json in the current format; a folder of an older format is rewritten once."""
    if meta.get("format_version", 2) >= VERSION:
        return meta
    if not (folder / pages.LENGTHS).is_file():
        pages.save_lengths(folder, _lengths(folder))
    meta = meta | {
        "format_version": VERSION,
        "hash": hash_of_examples(folder / "examples.parquet"),
        "source": {"files": [{"name": meta["name"], "bytes": meta["num_bytes"]}]},
    }
    write_json(folder / "meta.json", meta)
    return meta


def _lengths(folder: Path) -> np.ndarray:
    """The array of LENGTHS, counted from the stored rows and examples."""
    rows = pq.read_table(folder / "rows.parquet", columns=["row"])["row"].to_numpy()
    with pq.ParquetFile(folder / "rows.parquet") as file:
        sizes = [pc.utf8_length(batch["cells"]) for batch in file.iter_batches(columns=["cells"])]
    characters = np.concatenate([size.to_numpy() for size in sizes])
    answers = np.zeros(len(rows), np.int64)
    for example in pages.iter_examples(folder / "examples.parquet"):
        answers[np.searchsorted(rows, example.row)] = pages.answer_length(example)
    return np.stack([rows, characters.astype(np.int64), answers])
