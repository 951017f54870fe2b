"""One pass from a file to a dataset folder: rows, examples, problems; all of it or nothing.

Reading a finished folder is store.py.
"""

import hashlib
import itertools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainer_backend.data.checks import Checker
from trainer_backend.data.conversations import RowError
from trainer_backend.data.formats import (
    Detection,
    Mapping,
    check_mapping,
    describe_mapping,
    detect_format,
    to_example,
)
from trainer_backend.data.json_values import MAX_COLUMNS, to_json
from trainer_backend.errors import Problem, UserError
from trainer_backend.home import write_json

VERSION = 2  # part of every id: a reader that reads otherwise makes other datasets
DETECT_ROWS, DETECT_CHARS = 500, 4 * 1024 * 1024
GROUP_ROWS, GROUP_CHARS = 4_096, 8 * 1024 * 1024
ROWS_SCHEMA = pa.schema([("row", pa.int64()), ("cells", pa.string())])
EXAMPLES_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("messages", pa.string()),
        ("text", pa.string()),
        ("tools", pa.string()),
        ("digest", pa.int64()),
    ]
)


class GroupWriter:
    """Writes tuples to a Parquet file, a row group at a time, so memory stays flat."""

    def __init__(self, path: Path, schema: pa.Schema):
        self.schema, self.rows, self.size, self.count = schema, [], 0, 0
        # long texts hardly repeat, and a search has to unpack all of them: quick beats small
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

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self._flush()
        self.writer.close()


def content_hash(path: Path) -> str:
    """sha256 of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def id_of(content: str, mapping: Mapping | None) -> str:
    """The id of a content under the mapping a user chose (None: the one that was found)."""
    chosen = json.dumps([VERSION, content, asdict(mapping) if mapping else None], sort_keys=True)
    return hashlib.sha256(chosen.encode()).hexdigest()[:16]


def write_dataset(
    home: Path, rows: Iterable[tuple[int, dict]], facts: dict, mapping: Mapping | None
) -> None:
    """Build home/datasets/<id>/ in a temporary folder and rename it; `facts` go into meta.json."""
    target = home / "datasets" / facts["id"]
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent)
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=target.parent))
    try:
        meta = facts | _write_tables(building, rows, mapping, facts["name"])
        write_json(building / "meta.json", meta)
        building.chmod(0o755)
        _publish(building, target)
    except OSError as error:
        raise UserError(
            f"The dataset could not be stored: {error.strerror or error}.",
            "the datasets folder of the home",
            "Free some space or check the folder's permissions, then try again.",
        ) from None
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what a killed process left half-made a day ago or earlier."""
    for left in folder.glob(".building-*"):
        try:
            old = time.time() - left.stat().st_mtime > 24 * 3600
        except FileNotFoundError:
            continue  # another process finished it in this moment
        if old:
            shutil.rmtree(left, ignore_errors=True)


def _publish(building: Path, target: Path) -> None:
    try:
        os.rename(building, target)
    except OSError:
        if not (target / "meta.json").is_file():  # else somebody stored the same content first
            raise


def _write_tables(
    folder: Path, rows: Iterable[tuple[int, dict]], mapping: Mapping | None, name: str
) -> dict:
    rows = iter(rows)
    first = _first_rows(rows)
    found = detect_format([row for _, row in first])
    chosen = mapping or (found.mapping if found.sure else None)
    checker, columns = Checker(name), {}
    with (
        GroupWriter(folder / "rows.parquet", ROWS_SCHEMA) as cells,
        GroupWriter(folder / "examples.parquet", EXAMPLES_SCHEMA) as examples,
    ):
        for number, row in itertools.chain(first, rows):
            if row.keys() - columns.keys():
                _add_columns(columns, row, number, name)
            text = to_json(row)
            cells.add((number, text), len(text))
            if chosen:
                _add_example(number, row, chosen, checker, examples)
        if mapping:
            check_mapping(mapping, list(columns), name)
    problems = checker.finish() if chosen else [_undecided(found, name)]
    if chosen and not examples.count:
        raise _nothing_left(problems, name)
    _write_problem_rows(folder / "problems.parquet", checker.problem_rows)
    return _meta(chosen, found, list(columns), problems) | {
        "num_rows": cells.count,
        "num_examples": examples.count,
    }


def _write_problem_rows(path: Path, problem_rows: list[np.ndarray]) -> None:
    numbers = [np.full(len(rows), at, np.int32) for at, rows in enumerate(problem_rows)]
    columns = {
        "problem": np.concatenate([np.empty(0, np.int32), *numbers]),
        "row": np.concatenate([np.empty(0, np.int64), *problem_rows]),
    }
    pq.write_table(pa.table(columns), path)


def _first_rows(rows: Iterator[tuple[int, dict]]) -> list[tuple[int, dict]]:
    first, size = [], 0
    for number, row in rows:
        first.append((number, row))
        size += sum(len(value) for value in row.values() if isinstance(value, str))
        if len(first) >= DETECT_ROWS or size > DETECT_CHARS:
            break
    return first


def _add_columns(columns: dict, row: dict, number: int, name: str) -> None:
    columns.update(dict.fromkeys(row))
    if len(columns) > MAX_COLUMNS:
        raise UserError(
            f"The rows have more than {MAX_COLUMNS:,} different columns.",
            f"{name}, row {number}",
            "Give every row the same few columns.",
        )


def _add_example(
    number: int, row: dict, mapping: Mapping, checker: Checker, examples: GroupWriter
) -> None:
    try:
        example = to_example(number, row, mapping)
    except RowError as error:
        checker.drop(number, error)
        return
    messages = None if example.messages is None else to_json(example.messages)
    tools = None if example.tools is None else to_json(example.tools)
    whole = example.text if messages is None else messages + (tools or "")
    digest = checker.see(example, whole)
    examples.add((number, messages, example.text, tools, digest), len(whole))


def _nothing_left(problems: list[Problem], name: str) -> UserError:
    reason = max(problems, key=lambda problem: problem.count)
    return UserError(
        f"No row can be used for training: {reason.what[0].lower()}{reason.what[1:]}",
        reason.where if reason.count else name,
        f"{reason.fix.removeprefix('Such rows are left out. ')} Or choose other columns.",
    )


def _undecided(found: Detection, name: str) -> Problem:
    return Problem(
        "error",
        found.sentence,
        name,
        "Choose the columns above the table, then load it again.",
    )


def _meta(
    chosen: Mapping | None, found: Detection, columns: list[str], problems: list[Problem]
) -> dict:
    return {
        "format": chosen.format if chosen else "",
        "sentence": describe_mapping(chosen, columns) if chosen else found.sentence,
        "sure": chosen is not None,
        "columns": columns,
        "mapping": asdict(chosen) if chosen else None,
        "suggestion": asdict(found.mapping) if found.mapping else None,
        "problems": [problem.to_dict() for problem in problems],
    }
