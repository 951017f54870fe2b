"""Opens uploaded files, one or several, and reads their rows unchanged.

Picks the reader for each kind of file; what the columns mean is not known here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from trainer_backend.data.readers.archive import Archive
from trainer_backend.data.readers.columnar.arrow_reader import read_arrow
from trainer_backend.data.readers.columnar.parquet_reader import read_parquet
from trainer_backend.data.readers.csv_reader import find_layout, read_csv
from trainer_backend.data.readers.document_reader import PIECE, read_document
from trainer_backend.data.readers.encodings.names import encoding_name
from trainer_backend.data.readers.file_kind import kind_of
from trainer_backend.data.readers.json_reader import LAYOUTS, json_layout, read_json
from trainer_backend.data.readers.options import (
    DEFAULT,
    DELIMITERS,
    LEFT_OUT,
    DamageLog,
    ReadOptions,
    listed,
)
from trainer_backend.data.readers.sheet_reader import read_sheet, sheet_names
from trainer_backend.data.readers.source import Source
from trainer_backend.data.readers.text_reader import TextFile
from trainer_backend.errors import UserError

MAX_FILES = 1_000
Progress = Callable[[int, int], None]  # (bytes read, bytes in all)
PROGRESS_ROWS = 2_000


@dataclass
class DataFile:
    """One source with everything that is needed to read its rows."""

    source: Source
    kind: str  # "csv", "json", "parquet", "arrow", "xlsx" or "text"
    layout: str = ""  # the delimiter, how the JSON is laid out, or the sheet
    encoding: str = ""  # of text
    sheets: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    archive: Archive | None = None
    header_row: int | None = None  # of a table, where it was chosen

    def rows(self, damage: DamageLog) -> Iterator[tuple[int, dict]]:
        """(line or row in the file, row) for every row; damaged ones are reported to `damage`."""
        if self.kind in ("parquet", "arrow"):
            read = read_parquet if self.kind == "parquet" else read_arrow
            return read(self.source, damage)
        if self.kind == "xlsx":
            return read_sheet(self.source, self.layout, damage, self.header_row)
        file = TextFile(self.source, self.encoding, damage)
        if self.kind == "text":
            return read_document(file)
        if self.kind == "json":
            return read_json(file, self.layout)
        return read_csv(file, self.layout, self.header_row)


@dataclass
class RowReader:
    """Opened files: iterate for (row number, row); `notes` are sentences on how they are read.

    Rows keep the numbers they have in the file: a workbook's those of the sheet, others count from
    1 and count the rows left out. Several files are numbered on, one after the other.
    Iterating raises UserError for damage that may not be skipped, and if there are no rows.
    """

    files: list[DataFile]
    options: ReadOptions = field(default_factory=ReadOptions)
    notes: list[str] = field(default_factory=list)
    on_progress: Progress | None = None
    damage: DamageLog = field(default_factory=DamageLog)  # of the iteration begun last

    def __iter__(self) -> Iterator[tuple[int, dict]]:
        count, noted, report, most = 0, 0, self.on_progress, self.options.max_rows
        by_place = len(self.files) == 1 and self.files[0].kind == "xlsx"
        self.damage = damage = DamageLog(self.options.skip_damaged)
        sizes = [file.source.size for file in self.files]
        for count, (at, place, row) in enumerate(islice(self._rows(damage), most), start=1):
            if damage.count != noted or count == 1:  # at once: some callers stop early
                noted = self._note_damage(damage)
            yield place if by_place else count + damage.count, row
            if report and count % PROGRESS_ROWS == 0:
                done = min(self.files[at].source.position(), sizes[at])
                report(sum(sizes[:at]) + done, sum(sizes))
        if not count:
            raise self._no_rows(damage)
        self._note_damage(damage)
        if count == most:
            self.notes.append(f"Only the first {most:,} rows are read.")
        if report:
            report(sum(sizes), sum(sizes))

    def _rows(self, damage: DamageLog) -> Iterator[tuple[int, int, dict]]:
        """(index of the file, line or row in it, row) of all files, with images of archives."""
        for at, file in enumerate(self.files):
            damage.prefix = f"{file.source.name}: " if len(self.files) > 1 else ""
            archive = file.archive
            for place, row in file.rows(damage):
                yield at, place, archive.with_images(row, file.source) if archive else row

    def _note_damage(self, damage: DamageLog) -> int:
        """Replace the note about rows left out, add what was seen; returns their number."""
        self.notes[:] = [note for note in self.notes if LEFT_OUT not in note]
        self.notes += [note for note in dict.fromkeys(damage.notes) if note not in self.notes]
        if damage.count:
            self.notes.append(damage.sentence())
        return damage.count

    def _no_rows(self, damage: DamageLog) -> UserError:
        name = self.files[0].source.name
        if damage.count:
            what = f"None of the {damage.count:,} rows can be read: {damage.rows[0][1]}"
            return UserError(what, name, "Correct the file, or choose another way to read it.")
        table = self.files[0].kind in ("csv", "xlsx")
        what = "The file has a header but no rows." if table else "The file has no rows."
        others = [one for one in self.files[0].sheets if one != self.files[0].layout]
        if others and self.options.sheet is None:
            what = f"The sheet “{self.files[0].layout[:60]}” has no rows below its first one."
            fix = f"Read another sheet: {listed(others, 5)}."
            return UserError(what, name, fix, code="damaged", offer={"sheet": others[0]})
        return UserError(what, name, "Add at least one row of data below it.")


def read_rows(
    path: Path | Sequence[Path],
    *,
    options: ReadOptions = DEFAULT,
    on_progress: Progress | None = None,
) -> Iterator[tuple[int, dict]]:
    """(number from 1, {column: value}) for every row. Raises UserError with file, line, column."""
    yield from open_rows(path, options=options, on_progress=on_progress)


def open_rows(
    path: Path | Sequence[Path],
    *,
    options: ReadOptions = DEFAULT,
    on_progress: Progress | None = None,
) -> RowReader:
    """Open files for reading as one table; of a zip archive, the data files in it.

    Raises UserError for a file that is missing, unsafe or of an unknown kind. No row is read yet,
    except that the first rows of several files are compared.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(one) for one in path]
    if not 0 < len(paths) <= MAX_FILES:
        what = f"{len(paths):,} files were given; between 1 and {MAX_FILES:,} are read together."
        raise UserError(what, "the upload", "Put the rows into fewer files.")
    options.check(paths[0].name)
    files: list[DataFile] = []
    notes: list[str] = []
    for one in paths:
        found, of_file = _open_one(one, options)
        files += found
        notes += [f"{one.name}: {note}" for note in of_file] if len(paths) > 1 else of_file
    if len(files) > 1:
        notes += _different_columns(files, options)
    return RowReader(files, options, list(dict.fromkeys(notes)), on_progress)


def _open_one(path: Path, options: ReadOptions) -> tuple[list[DataFile], list[str]]:
    """The data files in one upload, and the notes on it."""
    source = Source(path)
    if source.ending != ".zip" or source.file_name.lower().endswith(".gz"):
        file = _data_file(source, options)
        return [file], file.notes
    if not source.head(4).startswith(b"PK"):
        fix = "Give the file the ending of what it holds, or pack it again."
        what = "This is not a zip archive, although its name ends with “.zip”."
        raise UserError(what, path.name, fix)
    archive = Archive(path)
    files = [_data_file(one, options, archive) for one in archive.sources]
    notes = [f"{file.source.file_name}: {note}" for file in files for note in file.notes]
    return files, archive.notes + notes


def _data_file(source: Source, options: ReadOptions, archive: Archive | None = None) -> DataFile:
    file = DataFile(source, kind_of(source), archive=archive, header_row=options.header_row)
    if file.kind == "xlsx":
        _choose_sheet(file, options.sheet)
    elif file.kind in ("csv", "json", "text"):
        _detect_layout(file, options)
    return file


def _choose_sheet(file: DataFile, wanted: str | None) -> None:
    file.sheets = sheet_names(file.source)
    if not file.sheets:
        fix = "Put the rows into a sheet, or save them as CSV UTF-8."
        raise UserError("The workbook has no sheet with cells.", file.source.name, fix)
    if wanted is not None and wanted not in file.sheets:
        what = f"The workbook has no sheet “{wanted[:60]}”."
        raise UserError(what, file.source.name, f"Choose one of {listed(file.sheets)}.")
    file.layout = file.sheets[0] if wanted is None else wanted
    others = [name for name in file.sheets if name != file.layout]
    if others:
        file.notes.append(f"Read from the sheet “{file.layout[:60]}”; not {listed(others, 5)}.")


def _detect_layout(file: DataFile, options: ReadOptions) -> None:
    text = TextFile(file.source, options.encoding, DamageLog(options.skip_damaged))
    file.encoding = text.encoding
    if text.encoding != "utf-8":
        file.notes.append(f"Read as {encoding_name(text.encoding)}.")
    if file.kind == "json":
        _detect_json_layout(file, text)
    elif file.kind == "csv":
        preferred = "\t" if file.source.ending == ".tsv" else ","
        file.layout = find_layout(text, preferred, options.delimiter)
        mark = DELIMITERS[file.layout[0]]
        if file.layout[0] != preferred:
            file.notes.append(f"Columns are separated by a {mark}.")
        quoting = {
            '"': "Quotes are part of the text.",
            " ": f"A space after each {mark} is not part of the text.",
            "'": "Single quotes around a text are not part of it.",
            "\\": 'A quote inside a text is written with a backslash: \\".',
        }
        file.notes += [quoting[file.layout[1:]]] if file.layout[1:] else []
    else:
        file.notes.append(
            f"The text is cut at paragraphs into pieces of up to {PIECE:,} characters; "
            "the model learns to continue such text."
        )


def _detect_json_layout(file: DataFile, text: TextFile) -> None:
    file.layout = json_layout(text)
    by_line = file.source.ending in (".jsonl", ".ndjson")
    as_named = {"lines": by_line, "array": not by_line, "object": True}
    if not as_named.get(file.layout):
        file.notes.append(f"The file holds {LAYOUTS[file.layout]}, and was read as such.")


def _different_columns(files: list[DataFile], options: ReadOptions) -> list[str]:
    """One sentence if the first rows of the files have different columns."""
    seen: dict[frozenset, str] = {}
    for file in files:
        first = next(iter(file.rows(DamageLog(options.skip_damaged))), None)
        if first:
            seen.setdefault(frozenset(first[1]), file.source.name)
    if len(seen) < 2:
        return []
    shared = frozenset.intersection(*seen)
    parts = []
    for columns, name in list(seen.items())[:4]:
        own = ", ".join(f"“{column[:60]}”" for column in sorted(columns - shared)[:6])
        parts.append(f"{name} also has {own}" if own else f"{name} has only shared columns")
    return [f"The files have different columns: {'; '.join(parts)}."]
