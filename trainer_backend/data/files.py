"""Files to rows: what a file really holds is told from its content, then read with nothing changed.

The readers for each kind are csv_reader, json_reader and parquet_reader; meaning is formats.py.
"""

import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainer_backend.data.csv_reader import SPOKEN, find_delimiter, read_csv
from trainer_backend.data.json_reader import json_layout, read_json
from trainer_backend.data.parquet_reader import read_parquet
from trainer_backend.data.text_reader import TextFile, read_head, spoken_encoding
from trainer_backend.errors import UserError

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
Progress = Callable[[int, int], None]  # (bytes read, bytes in all)
PROGRESS_ROWS = 2_000


@dataclass
class RowReader:
    """An open data file: iterate it for (row number, row); `notes` say how it was understood."""

    path: Path
    kind: str  # "csv", "json" or "parquet"
    layout: str = ""  # the delimiter, or how the JSON is laid out
    notes: list[str] = field(default_factory=list)
    on_progress: Progress | None = None

    def __iter__(self) -> Iterator[tuple[int, dict]]:
        size, number, position = self.path.stat().st_size, 0, lambda: 0
        if self.kind == "parquet":
            rows = read_parquet(self.path)
        else:
            file = TextFile(self.path)
            position = file.position
            rows = (read_json if self.kind == "json" else read_csv)(file, self.layout)
        for _, row in rows:
            number += 1
            yield number, row
            if self.on_progress and number % PROGRESS_ROWS == 0:
                self.on_progress(min(position(), size), size)
        if not number:
            raise self._no_rows()
        if self.on_progress:
            self.on_progress(size, size)

    def _no_rows(self) -> UserError:
        what = (
            "The file has a header but no rows." if self.kind == "csv" else "The file has no rows."
        )
        return UserError(what, self.path.name, "Add at least one row of data below it.")


def read_rows(path: Path, *, on_progress: Progress | None = None) -> Iterator[tuple[int, dict]]:
    """Every row as (number from 1, {column: exact value}); UserError names file, line, column."""
    yield from open_rows(path, on_progress=on_progress)


def open_rows(path: Path, *, on_progress: Progress | None = None) -> RowReader:
    """Tell what the file holds, refuse what cannot be data, and return its reader."""
    path = Path(path)
    suffix = _suffix(path)
    if suffix not in SUFFIXES:
        what = (
            f"Files ending in “{suffix}” cannot be read." if suffix else "The name has no ending."
        )
        fix = f"Use one of {', '.join(SUFFIXES)}, each also as .gz."
        if suffix in (".xlsx", ".xls", ".ods"):
            fix = "In the spreadsheet choose “Save as” and “CSV UTF-8”."
        raise UserError(what, path.name, fix)
    head = read_head(path)
    kind = _content_kind(path, head, suffix)
    reader = RowReader(path, kind, on_progress=on_progress)
    if kind != "parquet":
        _tell_layout(reader, suffix)
    return reader


def _suffix(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _content_kind(path: Path, head: bytes, suffix: str) -> str:
    if not head.strip(b" \t\r\n\xef\xbb\xbf\xff\xfe\0"):
        raise UserError("The file is empty.", path.name, "Upload a file with at least one row.")
    if head.startswith(b"PAR1") and path.name.lower().endswith(".gz"):
        fix = "Unpack it first: Parquet is compressed inside already."
        raise UserError(
            "The file holds Parquet inside gzip, which is not read here.", path.name, fix
        )
    if head.startswith(b"PAR1"):
        return _expect(path, "Parquet", ".parquet", suffix == ".parquet", "parquet")
    _refuse_binary(path, head)
    if suffix == ".parquet":
        raise UserError(
            "This is not a Parquet file, though its name says so.",
            path.name,
            "Give the file the ending of what it holds, or export it as Parquet again.",
        )
    start = head.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n")
    if suffix in (".csv", ".tsv"):
        looks_json = start.startswith(('{"', "[{", "{\n", "[\n", "[\r"))
        return _expect(path, "JSON", ".json or .jsonl", not looks_json, "csv")
    if not head.startswith((b"\xff\xfe", b"\xfe\xff")) and b"\0" not in head[:4]:
        _refuse_not_json(path, start, suffix)
    return "json"


def _expect(path: Path, found: str, ending: str, fits: bool, kind: str) -> str:
    if fits:
        return kind
    raise UserError(
        f"The file holds {found}, but its name ends with “{path.suffix}”.",
        path.name,
        f"Rename it to end with {ending} and upload it again.",
    )


def _refuse_not_json(path: Path, start: str, suffix: str) -> None:
    if start[:1] in '{["':
        return
    what = f"This is not JSON: it begins with “{start[:20].splitlines()[0]}”."
    fix = "Rename it to .csv if it is a table, or export it as JSON."
    raise UserError(what, f"{path.name}, line 1, column 1", fix)


def _refuse_binary(path: Path, head: bytes) -> None:
    kinds = (
        (b"PK\x03\x04", "a zip archive or a spreadsheet (.xlsx)", "Save the table as CSV UTF-8."),
        (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "Save the table as CSV UTF-8."),
        (b"ARROW1", "an Arrow file", "Save it as Parquet."),
        (b"%PDF", "a PDF", "Copy its text into a table or JSON Lines."),
        (b"BZh", "a bzip2 archive", "Unpack it first."),
        (b"\xfd7zXZ", "an xz archive", "Unpack it first."),
        (b"SQLite format 3", "a SQLite database", "Export the table as CSV."),
    )
    for magic, what, fix in kinds:
        if head.startswith(magic):
            raise UserError(f"The file holds {what}, which is not read here.", path.name, fix)
    if _is_pickle(head):
        raise UserError(
            "The file is a Python pickle, which can run code when opened.",
            path.name,
            "Save the data as JSON Lines or Parquet.",
        )


def _is_pickle(head: bytes) -> bool:
    if not (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05"):
        return False
    try:
        return next(pickletools.genops(head))[0].name == "PROTO"
    except ValueError:
        return False


def _tell_layout(reader: RowReader, suffix: str) -> None:
    file = TextFile(reader.path)
    if file.encoding != "utf-8":
        reader.notes.append(f"Read as {spoken_encoding(file.encoding)}.")
    if reader.kind == "json":
        reader.layout = json_layout(file)
        said = {"array": "one list of rows", "object": "one object", "lines": "one object a line"}
        if (reader.layout == "lines") != (suffix == ".jsonl"):
            reader.notes.append(f"The file holds {said[reader.layout]}, and was read as such.")
        return
    preferred = "\t" if suffix == ".tsv" else ","
    reader.layout = find_delimiter(file, preferred)
    if reader.layout != preferred:
        reader.notes.append(f"Columns are separated by a {SPOKEN[reader.layout]}.")
