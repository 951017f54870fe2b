"""Files to rows: open what was uploaded, one file or several, and read it with nothing changed.

What a file holds is told in file_kind.py; each kind has its reader; meaning is formats.py.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from trainer_backend.data.readers.archive import Archive
from trainer_backend.data.readers.arrow_reader import read_arrow
from trainer_backend.data.readers.csv_reader import find_layout, read_csv
from trainer_backend.data.readers.document_reader import PIECE, read_document
from trainer_backend.data.readers.file_kind import kind_of
from trainer_backend.data.readers.json_reader import json_layout, read_json
from trainer_backend.data.readers.options import (
    DEFAULT,
    DELIMITERS,
    LEFT_OUT,
    DamageLog,
    ReadOptions,
)
from trainer_backend.data.readers.parquet_reader import read_parquet
from trainer_backend.data.readers.sheet_reader import read_sheet, sheet_names
from trainer_backend.data.readers.source import Source
from trainer_backend.data.readers.text_reader import TextFile, spoken_encoding
from trainer_backend.errors import UserError

MAX_FILES = 1_000
Progress = Callable[[int, int], None]  # (bytes read, bytes in all)
PROGRESS_ROWS = 2_000


@dataclass
class DataFile:
    """One source that is told apart: iterate `rows` for (line or row in the file, row)."""

    source: Source
    kind: str  # "csv", "json", "parquet", "arrow", "xlsx" or "text"
    layout: str = ""  # the delimiter, how the JSON is laid out, or the sheet
    encoding: str = ""  # of text
    sheets: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    archive: Archive | None = None

    def rows(self, damage: DamageLog) -> Iterator[tuple[int, dict]]:
        """Every row, streamed; what cannot be read goes to `damage`."""
        if self.kind in ("parquet", "arrow"):
            read = read_parquet if self.kind == "parquet" else read_arrow
            return read(self.source, damage)
        if self.kind == "xlsx":
            return read_sheet(self.source, self.layout, damage)
        file = TextFile(self.source, self.encoding, damage)
        if self.kind == "text":
            return read_document(file)
        return (read_json if self.kind == "json" else read_csv)(file, self.layout)


@dataclass
class RowReader:
    """What was opened: iterate it for (row number, row); `notes` say how it was understood."""

    files: list[DataFile]
    options: ReadOptions = field(default_factory=ReadOptions)
    notes: list[str] = field(default_factory=list)
    on_progress: Progress | None = None
    _damage: DamageLog = field(default_factory=DamageLog)

    @property
    def damaged(self) -> list[tuple[int, str]]:
        """(line or row in its file, what) of rows left out with skip_damaged, once it is read."""
        return self._damage.rows

    @property
    def num_damaged(self) -> int:
        """How many rows were left out; `damaged` lists the first 10,000."""
        return self._damage.count

    @property
    def kind(self) -> str:
        """The kind of the (first) file: "csv", "json", "parquet", "arrow", "xlsx" or "text"."""
        return self.files[0].kind

    @property
    def layout(self) -> str:
        """Of the (first) file: its delimiter, how its JSON is laid out, or its sheet."""
        return self.files[0].layout

    def __iter__(self) -> Iterator[tuple[int, dict]]:
        number, left_out, report, most = 0, 0, self.on_progress, self.options.max_rows
        self._damage = damage = DamageLog(self.options.skip_damaged)
        sizes = [file.source.size for file in self.files]
        for number, (at, row) in enumerate(islice(self._rows(damage), most), start=1):
            if damage.count != left_out:  # said as it is found: not everybody reads to the end
                left_out = self._say_damage(damage)
            yield number, row
            if report and number % PROGRESS_ROWS == 0:
                done = min(self.files[at].source.position(), sizes[at])
                report(sum(sizes[:at]) + done, sum(sizes))
        if not number:
            raise self._no_rows(damage)
        self._say_damage(damage)
        if number == most:
            self.notes.append(f"Only the first {most:,} rows are read.")
        if report:
            report(sum(sizes), sum(sizes))

    def _rows(self, damage: DamageLog) -> Iterator[tuple[int, dict]]:
        """(which file, row) of all files, pictures of an archive put in."""
        for at, file in enumerate(self.files):
            damage.prefix = f"{file.source.name}: " if len(self.files) > 1 else ""
            for _, row in file.rows(damage):
                yield at, file.archive.with_images(row, file.source) if file.archive else row

    def _say_damage(self, damage: DamageLog) -> int:
        """Keep the sentence about rows left out up to date among the notes."""
        self.notes[:] = [note for note in self.notes if LEFT_OUT not in note]
        if damage.count:
            self.notes.append(damage.sentence())
        return damage.count

    def _no_rows(self, damage: DamageLog) -> UserError:
        name = self.files[0].source.name
        if damage.count:
            what = f"None of the {damage.count:,} rows can be read: {damage.rows[0][1]}"
            return UserError(what, name, "Correct the file, or choose how it is to be read.")
        table = self.kind in ("csv", "xlsx")
        what = "The file has a header but no rows." if table else "The file has no rows."
        return UserError(what, name, "Add at least one row of data below it.")


def read_rows(
    path: Path | Sequence[Path],
    *,
    options: ReadOptions = DEFAULT,
    on_progress: Progress | None = None,
) -> Iterator[tuple[int, dict]]:
    """Every row as (number from 1, {column: exact value}); UserError names file, line, column."""
    yield from open_rows(path, options=options, on_progress=on_progress)


def open_rows(
    path: Path | Sequence[Path],
    *,
    options: ReadOptions = DEFAULT,
    on_progress: Progress | None = None,
) -> RowReader:
    """Tell what the files hold, refuse what cannot be data, and return their reader.

    Several files are read one after another as one; a zip archive is the data files in it.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(one) for one in path]
    if not 0 < len(paths) <= MAX_FILES:
        what = f"{len(paths):,} files were given; between 1 and {MAX_FILES:,} are read together."
        raise UserError(what, "the upload", "Put the rows into fewer files.")
    options.check(paths[0].name)
    files, notes = [], []
    for one in paths:
        found, said = _open_one(one, options)
        files += found
        notes += [f"{one.name}: {note}" for note in said] if len(paths) > 1 else said
    if len(files) > 1:
        notes += _different_columns(files, options)
    return RowReader(files, options, list(dict.fromkeys(notes)), on_progress)


def _open_one(path: Path, options: ReadOptions) -> tuple[list[DataFile], list[str]]:
    """The data files in one upload, and what is to be said of it."""
    source = Source(path)
    if source.ending != ".zip" or source.file_name.lower().endswith(".gz"):
        file = _tell(source, options)
        return [file], file.notes
    if not source.head(4).startswith(b"PK"):
        fix = "Give the file the ending of what it holds, or pack it again."
        raise UserError("This is not a zip archive, though its name says so.", path.name, fix)
    archive = Archive(path)
    files = [_tell(one, options, archive) for one in archive.sources]
    notes = [f"{file.source.entry.filename}: {note}" for file in files for note in file.notes]
    return files, archive.notes + notes


def _tell(source: Source, options: ReadOptions, archive: Archive | None = None) -> DataFile:
    file = DataFile(source, kind_of(source), archive=archive)
    if file.kind == "xlsx":
        _tell_sheet(file, options.sheet)
    elif file.kind in ("csv", "json", "text"):
        _tell_text(file, options)
    return file


def _tell_sheet(file: DataFile, wanted: str | None) -> None:
    file.sheets = sheet_names(file.source)
    if not file.sheets:
        fix = "Put the rows into a sheet, or save them as CSV UTF-8."
        raise UserError("The workbook has no sheet with cells.", file.source.name, fix)
    if wanted is not None and wanted not in file.sheets:
        known = ", ".join(f"“{name[:60]}”" for name in file.sheets[:12])
        what = f"The workbook has no sheet “{wanted[:60]}”."
        raise UserError(what, file.source.name, f"Choose one of {known}.")
    file.layout = file.sheets[0] if wanted is None else wanted
    others = [name for name in file.sheets if name != file.layout]
    if others:
        listed = ", ".join(f"“{name[:60]}”" for name in others[:5])
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        file.notes.append(f"Read from the sheet “{file.layout[:60]}”; not {listed}{more}.")


def _tell_text(file: DataFile, options: ReadOptions) -> None:
    text = TextFile(file.source, options.encoding, DamageLog(options.skip_damaged))
    file.encoding = text.encoding
    if text.encoding != "utf-8":
        file.notes.append(f"Read as {spoken_encoding(text.encoding)}.")
    if file.kind == "json":
        _tell_json(file, text)
    elif file.kind == "csv":
        preferred = "\t" if file.source.ending == ".tsv" else ","
        file.layout = find_layout(text, preferred, options.delimiter)
        mark = DELIMITERS[file.layout[0]]
        if file.layout[0] != preferred:
            file.notes.append(f"Columns are separated by a {mark}.")
        if file.layout[1:] == '"':
            file.notes.append("Quotes are part of the text.")
        elif file.layout[1:]:
            file.notes.append(f"A space after each {mark} is not part of the text.")
    else:
        file.notes.append(
            f"The text is cut at paragraphs into pieces of up to {PIECE:,} characters; "
            "the model learns to continue such text."
        )


def _tell_json(file: DataFile, text: TextFile) -> None:
    file.layout = json_layout(text)
    said = {"array": "one list of rows", "object": "one object", "lines": "one object a line"}
    by_line = file.source.ending in (".jsonl", ".ndjson")
    if (file.layout == "lines") != by_line and not (by_line and file.layout == "object"):
        file.notes.append(f"The file holds {said[file.layout]}, and was read as such.")


def _different_columns(files: list[DataFile], options: ReadOptions) -> list[str]:
    """One sentence if the files' first rows do not have the same columns."""
    seen: dict[frozenset, str] = {}
    for file in files:
        first = next(iter(file.rows(DamageLog(options.skip_damaged))), None)
        if first:
            seen.setdefault(frozenset(first[1]), file.source.name)
    if len(seen) < 2:
        return []
    shared = frozenset.intersection(*seen)
    said = []
    for columns, name in list(seen.items())[:4]:
        own = ", ".join(f"“{column[:60]}”" for column in sorted(columns - shared)[:6])
        said.append(f"{name} also has {own}" if own else f"{name} has only what all have")
    return [f"The files have different columns: {'; '.join(said)}."]
