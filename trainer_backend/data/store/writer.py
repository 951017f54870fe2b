"""Writes a dataset folder in one pass over the rows: rows, examples, problems; atomically.

Where rows come from and what an id covers is not known here.
"""

import errno
import itertools
import os
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainer_backend.data.checks import LEFT_OUT, Checker
from trainer_backend.data.formats import (
    ColumnMapping,
    Detection,
    Example,
    check_mapping,
    describe_mapping,
    detect_format,
    first_rows,
    outdone,
    to_example,
    unused_columns,
)
from trainer_backend.data.images import STORED_IMAGE, ImageRef, ImageStore, images_in
from trainer_backend.data.json_values import MAX_COLUMNS, quick_json, to_json
from trainer_backend.data.store.fingerprint import VERSION, ExampleHash
from trainer_backend.data.store.pages import NumberedRow, answer_length, save_lengths
from trainer_backend.data.store.split import HeldOut, HeldOutFile, held_out_facts, overlap_problem
from trainer_backend.errors import Problem, RowError, UserError
from trainer_backend.home import remove, remove_old, write_json

GROUP_ROWS, GROUP_CHARS = 4_096, 2 * 1024 * 1024  # of a row group
REPORT_ROWS = 20_000  # rows between two calls of on_findings
MAX_NAME = 1_000  # characters of a column name
OnFindings = Callable[[list[Problem], list[NumberedRow]], None]  # (problems, first rows)
ROWS_SCHEMA = pa.schema([("row", pa.int64()), ("cells", pa.string())])
EXAMPLES_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("messages", pa.string()),
        ("text", pa.string()),
        ("tools", pa.string()),
        ("images", pa.string()),
        ("digest", pa.int64()),
    ]
)


class GroupWriter:
    """Writes tuples to a Parquet file, one row group at a time."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.schema, self.size, self.count = schema, 0, 0
        self.rows: list[tuple] = []
        # a search decompresses all texts, and long texts rarely repeat: fast beats small
        self.writer = pq.ParquetWriter(path, schema, compression="lz4", use_dictionary=False)

    def add(self, row: tuple, size: int) -> None:
        """Add one row of about `size` characters."""
        self.rows.append(row)
        self.size += size
        self.count += 1
        if len(self.rows) >= GROUP_ROWS or self.size >= GROUP_CHARS:
            self._flush()

    def _flush(self) -> None:
        if self.rows:
            arrays = [
                pa.array(cells, type=field.type)
                for cells, field in zip(zip(*self.rows, strict=True), self.schema, strict=True)
            ]
            self.writer.write_table(pa.Table.from_arrays(arrays, schema=self.schema))
        self.rows, self.size = [], 0

    def __enter__(self) -> "GroupWriter":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._flush()
        self.writer.close()


def write_dataset(  # noqa: PLR0913 - all that decides what is written
    home: Path,
    rows: Iterable[NumberedRow],
    facts: dict[str, Any],
    extra: dict[str, Any],
    mapping: ColumnMapping | None,
    on_findings: OnFindings | None = None,
    image_folders: Sequence[Path] = (),
    chosen: bool = False,
) -> None:
    """Build home/datasets/<id>/ in a temporary folder and rename it.

    `facts` and `extra` go into meta.json; `extra` is read after the last row. Images that rows only
    name are linked from `image_folders`. `chosen`: of preference data train on the chosen answers.
    Raises UserError when no row can be used, for data without chosen answers, or for disk errors.
    """
    target = home / "datasets" / facts["id"]
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_old(target.parent, ".building-*")
    for deleted in target.parent.glob(".trash-*"):
        remove(deleted)
    building = Path(tempfile.mkdtemp(prefix=f".building-{os.getpid()}-", dir=target.parent))
    try:
        images = ImageStore(building, image_folders)
        work = _Pass(building, facts, mapping, extra.get("held_out"), images)
        meta = work.run(iter(rows), on_findings, chosen)
        meta = facts | extra | meta | {"format_version": VERSION}
        write_json(building / "meta.json", meta)
        building.chmod(0o755)
        _publish(building, target)
    except OSError as error:
        raise UserError(
            f"The dataset could not be stored: {error.strerror or error}.",
            "the datasets folder of the home folder",
            "Free some space or check the folder's permissions, then try again.",
            code="disk_full" if error.errno == errno.ENOSPC else "",
        ) from None
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _publish(building: Path, target: Path) -> None:
    try:
        os.rename(building, target)
    except OSError:
        if not (target / "meta.json").is_file():  # else another process stored the same
            raise


class _Pass:
    """The state of one pass over the rows."""

    def __init__(
        self,
        folder: Path,
        facts: dict[str, Any],
        mapping: ColumnMapping | None,
        held_out: HeldOutFile | None,
        images: ImageStore,
    ) -> None:
        self.folder, self.name, self.mapping = folder, facts["name"], mapping
        self.system_prompt = facts["system_prompt"]
        self.held_out, self.images = held_out, images
        self.checker = Checker(self.name, folder)
        self.columns: dict[str, None] = {}  # an ordered set
        self.hash = ExampleHash()
        self.outdone: set[int] = set()  # rows with a worse score than another answer
        self.lengths = array("q")  # three for each row: number, characters, characters of answer

    def run(
        self, rows: Iterator[NumberedRow], on_findings: OnFindings | None, wants_chosen: bool
    ) -> dict[str, Any]:
        """Write all tables; returns the facts about them for meta.json."""
        first = first_rows(rows)
        found = detect_format([row for _, row in first])
        if wants_chosen and not self.mapping:
            self.mapping = _of_chosen(found, self.name)
        chosen = self.mapping or (found.mapping if found.sure else None)
        if on_findings and not chosen:
            on_findings([_undecided(found, self.name)], first)
        report = _reporter(on_findings, self.checker, first) if on_findings and chosen else None
        everything: Iterable[NumberedRow] = itertools.chain(first, rows)
        if chosen and "score" in chosen.roles:
            everything = list(everything)  # which answer is the best is known at the end
            self.outdone = outdone(everything, chosen.roles)
        counts = self._write_tables(everything, chosen, report)
        problems = self.checker.finish() if chosen else [_undecided(found, self.name)]
        if chosen and not counts["num_examples"]:
            error = _nothing_left(problems, self.name, len(self.columns))
            if self.mapping or len(self.columns) == 1:
                raise error
            found = Detection(None, f"{error.what} {error.where}", False)
            chosen, problems = None, [_refused(error)]
        problem_rows = list(self.checker.problem_rows)
        if self.held_out and chosen:
            counts["held_out"] = self._overlap(self.held_out, problems, problem_rows)
        _write_problem_rows(self.folder / "problems.parquet", problem_rows)
        lengths = np.frombuffer(self.lengths, np.int64).reshape(-1, 3).T
        save_lengths(self.folder, np.ascontiguousarray(lengths))
        return _meta(chosen, found, list(self.columns), problems) | counts

    def _overlap(
        self, file: HeldOutFile, problems: list[Problem], problem_rows: list[np.ndarray]
    ) -> HeldOut:
        """The held-out file with its counts; rows on both sides become the first warning."""
        table = pq.read_table(self.folder / "examples.parquet", columns=["row", "digest"])
        rows, digests = (table[name].to_numpy() for name in ("row", "digest"))
        facts, both = held_out_facts(file, rows, digests, self.checker.near)
        if len(both):
            at = sum(problem.severity == "error" for problem in problems)
            problems.insert(at, overlap_problem(facts, both, self.name))
            problem_rows.insert(at, both)
        return facts

    def _write_tables(
        self,
        rows: Iterable[NumberedRow],
        chosen: ColumnMapping | None,
        report: Callable[[int], None] | None,
    ) -> dict[str, Any]:
        with (
            GroupWriter(self.folder / "rows.parquet", ROWS_SCHEMA) as cells,
            GroupWriter(self.folder / "examples.parquet", EXAMPLES_SCHEMA) as examples,
        ):
            for number, row in rows:
                if row.keys() - self.columns.keys():
                    _add_columns(self.columns, row, number, self.name)
                text = quick_json(row)
                cells.add((number, text), len(text))
                if STORED_IMAGE in text:
                    self._keep_images(row)
                example = self._example(number, row, chosen) if chosen else None
                if example:
                    self._add(example, examples)
                self.lengths.extend((number, len(text), answer_length(example) if example else 0))
                if report:
                    report(cells.count)
            if self.mapping:
                check_mapping(self.mapping, list(self.columns), self.name)
        return {
            "num_rows": cells.count,
            "num_examples": examples.count,
            "hash": self.hash.hexdigest(),
        }

    def _keep_images(self, row: dict) -> None:
        for image in images_in(row):
            try:
                self.images.keep(image)
            except RowError:
                continue  # reported if the row is to be trained on

    def _example(self, number: int, row: dict, mapping: ColumnMapping) -> Example | None:
        try:
            if number in self.outdone:
                raise _outdone(mapping.roles["score"])
            example = to_example(number, row, mapping, self.system_prompt)
            if example.images:
                names: list[ImageRef] = [self.images.keep(image) for image in example.images]
                example = replace(example, images=names)
            return example
        except RowError as error:
            self.checker.drop(number, error)
            return None

    def _add(self, example: Example, examples: GroupWriter) -> None:
        messages = None if example.messages is None else quick_json(example.messages)
        tools = None if example.tools is None else to_json(example.tools)
        images = to_json(example.images) if example.images else None
        whole = (messages or example.text or "") + (tools or "") + (images or "")
        digest = self.checker.see(example, whole)
        self.hash.add(messages, example.text, tools, images)
        examples.add((example.row, messages, example.text, tools, images, digest), len(whole))


def _outdone(column: str) -> RowError:
    what = f"Another answer to the same prompt has a better “{column[:60]}”."
    return RowError(what, "Nothing needs to be done.", "rejected_answer")


def _write_problem_rows(path: Path, problem_rows: list[np.ndarray]) -> None:
    numbers = [np.full(len(rows), at, np.int32) for at, rows in enumerate(problem_rows)]
    columns = {
        "problem": np.concatenate([np.empty(0, np.int32), *numbers]),
        "row": np.concatenate([np.empty(0, np.int64), *problem_rows]),
    }
    pq.write_table(pa.table(columns), path)


def _reporter(
    on_findings: OnFindings, checker: Checker, first: list[NumberedRow]
) -> Callable[[int], None]:
    """Reports the findings after the first rows, then every REPORT_ROWS."""

    def report(count: int) -> None:
        if count == len(first) or count % REPORT_ROWS == 0:
            on_findings(checker.so_far(), first)

    return report


def _add_columns(columns: dict[str, None], row: dict, number: int, name: str) -> None:
    if any(len(column) > MAX_NAME for column in row.keys() - columns.keys()):
        what = f"The name of a column is longer than {MAX_NAME:,} characters."
        raise UserError(what, f"{name}, row {number}", "Give the columns short names.")
    columns.update(dict.fromkeys(row))
    if len(columns) > MAX_COLUMNS:
        raise UserError(
            f"The rows have more than {MAX_COLUMNS:,} different columns.",
            f"{name}, row {number}",
            "Give every row the same few columns.",
        )


def _nothing_left(problems: list[Problem], name: str, num_columns: int) -> UserError:
    reason = max(problems, key=lambda problem: problem.count)
    others = " Or choose other columns." if num_columns > 1 else ""
    return UserError(
        f"No row can be used for training: {reason.what[0].lower()}{reason.what[1:]}",
        reason.where if reason.count else name,
        f"{reason.fix.removeprefix(LEFT_OUT)}{others}",
        code=reason.code,
    )


def _refused(error: UserError) -> Problem:
    return Problem("error", error.what, error.where, error.fix, code=error.code)


def _of_chosen(found: Detection, name: str) -> ColumnMapping:
    if found.chosen:
        return found.chosen
    raise UserError(
        "No chosen answers were found: this does not look like preference data.",
        name,
        "Load it without --chosen (or “chosen”), or name its columns with --columns.",
    )


def _undecided(found: Detection, name: str) -> Problem:
    return Problem("error", found.sentence, name, found.advice, code=found.code)


def _sentence(chosen: ColumnMapping | None, found: Detection, columns: list[str]) -> str:
    if not chosen:
        return found.sentence
    return describe_mapping(chosen, columns) + (found.remark if chosen == found.mapping else "")


def _meta(
    chosen: ColumnMapping | None, found: Detection, columns: list[str], problems: list[Problem]
) -> dict[str, Any]:
    return {
        "format": chosen.format if chosen else "",
        "sentence": _sentence(chosen, found, columns),
        "sure": chosen is not None,
        "columns": columns,
        "mapping": asdict(chosen) if chosen else None,
        "suggestion": asdict(found.mapping) if found.mapping else None,
        "chosen": asdict(found.chosen) if found.chosen else None,
        "ignored_columns": unused_columns(chosen, columns) if chosen else [],
        "problems": [problem.to_dict() for problem in problems],
    }
