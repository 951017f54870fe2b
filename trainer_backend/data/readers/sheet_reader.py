"""Rows from a workbook (.xlsx, .ods): the text that the cells of one sheet show.

Text cells are exact. Numbers follow their number format if it is simple, else they are in full;
dates become ISO 8601 text, formulas their saved value.
"""

import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import ROUND_HALF_UP, Decimal
from itertools import chain
from typing import Any

import openpyxl

from trainer_backend.data.readers.header import (
    Below,
    Header,
    Row,
    find_header,
    sampled,
    uneven,
)
from trainer_backend.data.readers.ods_reader import ods_rows, ods_sheets
from trainer_backend.data.readers.options import MAX_LINE, DamageLog
from trainer_backend.data.readers.source import Source
from trainer_backend.errors import UserError

MAX_ROWS = 1_048_576  # as many as Excel has
MAX_UNPACKED = 512 * 1024 * 1024  # bytes of XML in one workbook; its shared texts are held at once
_BROKEN_BOOK = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError,
    RuntimeError, SyntaxError, TypeError, ValueError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip  # what openpyxl raises for a damaged workbook
_SIMPLE_FORMAT = re.compile(r"(#,##)?(0+)(?:\.(0+))?(%)?")
_ESCAPED = re.compile(r"_x00(09|0A|0D)_", re.IGNORECASE)  # tab, line feed, return (ST_Xstring)


def sheet_names(source: Source) -> list[str]:
    """The names of a workbook's sheets in order. Raises UserError if it is damaged."""
    if source.ending == ".ods":
        return ods_sheets(source)
    with _opened(source) as book:
        return [sheet.title for sheet in book.worksheets]


def read_sheet(
    source: Source, sheet: str, damage: DamageLog, header_row: int | None = None
) -> Iterator[tuple[int, dict]]:
    """(row of the sheet, row); titles above the header and notes below the table are left out."""
    where = f"{source.name}, sheet “{sheet[:60]}”, row"
    if source.ending == ".ods":
        yield from _read(ods_rows(source, sheet), damage, where, header_row)
        return
    with _opened(source) as book:
        try:
            yield from _read(_filled_rows(book[sheet], source), damage, where, header_row)
        except _BROKEN_BOOK as error:
            raise _unreadable(source, error) from None


def _read(
    rows: Iterator[Row], damage: DamageLog, where: str, header_row: int | None
) -> Iterator[tuple[int, dict]]:
    """The rows under the header, wherever it stands."""
    sample = sampled(rows)
    if sample:
        header = find_header(sample, header_row, where, "row")
        damage.notes += [header.note] if header.note else []
        data = (row for row in sample if row[0] > header.row)
        yield from _table(chain(data, rows), header, damage, where)


def _filled_rows(page: Any, source: Source) -> Iterator[Row]:
    """(row of the sheet, texts up to the last filled cell) for every row that is not blank."""
    total = min(page.max_row or MAX_ROWS, MAX_ROWS)
    page.reset_dimensions()  # wrong ones, as some programs write, would cut rows off
    for number, cells in enumerate(page.iter_rows(max_row=MAX_ROWS), start=1):
        texts = [_cell_text(cell) for cell in cells]
        while texts and not texts[-1].strip():
            texts.pop()
        source.fraction = min(0.99, number / total)
        if texts:
            yield number, texts


def _table(
    rows: Iterator[Row], header: Header, damage: DamageLog, where: str
) -> Iterator[tuple[int, dict]]:
    """The rows under the header; what does not fit it is reported."""
    columns, below = header.columns, Below(len(header.columns), "row")
    for one in rows:
        for number, texts in below.passed(one):
            if fault := _fault(texts, len(columns), f"{where} {number}"):
                fault.offer = {"header_row": header.instead} if header.instead else None
                damage.report(number, fault)
            else:
                texts += [""] * (len(columns) - len(texts))
                yield number, dict(zip(columns, texts, strict=True))
    damage.notes += [below.note()] if below.note() else []


@contextmanager
def _opened(source: Source) -> Iterator[openpyxl.Workbook]:
    with source.seekable() as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # openpyxl's, on unknown styles and extensions
        book = None
        try:
            _check_unpacked(source, file)
            book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
        except _BROKEN_BOOK as error:
            raise _unreadable(source, error) from None
        try:
            yield book
        finally:
            book.close()


def _check_unpacked(source: Source, file: Any) -> None:
    with zipfile.ZipFile(file) as parts:
        size = sum(part.file_size for part in parts.infolist())
    if size > min(source.budget(), MAX_UNPACKED):
        raise UserError(
            f"The workbook unpacks to more than {MAX_UNPACKED // 2**20} MB.",
            source.name,
            "Save the sheet as CSV UTF-8 and upload that.",
        )


def _unreadable(source: Source, error: Exception) -> UserError:
    said = (str(error).splitlines() or [""])[0]
    said = said.replace(str(source.path), source.path.name)  # openpyxl names its folder too
    reason = said[:120].strip(" .'\"") or type(error).__name__
    fix = "It is damaged, cut off or protected by a password. Save it again, or as CSV UTF-8."
    return UserError(f"The workbook cannot be read: {reason}.", source.name, fix)


def _fault(texts: list[str], width: int, where: str) -> UserError | None:
    if len(texts) > width:
        what = uneven(len(texts), width)
        return UserError(what, where, "Name the column in the header, or empty the cell.")
    if any("\0" in text for text in texts):
        return UserError("The text holds a NUL character.", where, "Remove the character.")
    if any(len(text) > MAX_LINE for text in texts):
        return UserError("The text is longer than 16 MB.", where, "Split the row.")
    return None


def _cell_text(cell: Any) -> str:
    """The text a cell shows, except for what depends on the locale."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, str):
        return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), value) if "_x" in value else value
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float):
        return _number_text(value, cell.number_format)
    if isinstance(value, datetime):
        midnight = value.time() == time()
        return value.date().isoformat() if midnight else value.isoformat(" ", "seconds")
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value)  # a duration: 1:30:00


def _number_text(value: int | float, shown_as: str) -> str:
    simple = _SIMPLE_FORMAT.fullmatch(shown_as or "")
    if not simple or value < 0 or abs(value) >= 1e15:
        whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
        return str(int(value)) if whole else repr(value)
    thousands, zeros, decimals, percent = simple.groups()
    places = len(decimals or "")
    exact = Decimal(repr(value)) * (100 if percent else 1)
    rounded = exact.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)
    text = f"{rounded:,.{places}f}" if thousands else f"{rounded:.{places}f}"
    missing = len(zeros) - len(text.split(".")[0].replace(",", ""))
    return "0" * max(0, missing) + text + (percent or "")
