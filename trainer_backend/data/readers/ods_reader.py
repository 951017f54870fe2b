"""Rows from an OpenDocument spreadsheet (.ods): the texts of the cells of one sheet.

Numbers and dates are the stored values, dates as ISO 8601 text; other cells are what they show.
Format: https://docs.oasis-open.org/office/OpenDocument/v1.3/part3-schema (table:table).
"""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO
from xml.etree.ElementTree import Element, ParseError, iterparse

from trainer_backend.data.json_values import MAX_COLUMNS
from trainer_backend.data.readers.header import Row
from trainer_backend.data.readers.source import Source
from trainer_backend.errors import UserError

MAX_ROWS = 1_048_576
MAX_UNPACKED = 512 * 1024 * 1024  # bytes of XML
_BROKEN = (ParseError, KeyError, OSError, RuntimeError, ValueError, EOFError, zlib.error,
           zipfile.BadZipFile, NotImplementedError)  # fmt: skip  # what damaged files raise
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"


def ods_sheets(source: Source) -> list[str]:
    """The names of the sheets in order. Raises UserError if the file is damaged."""
    names = []
    with _content(source) as stream:
        for event, element in iterparse(stream, ("start", "end")):
            if event == "start" and element.tag == f"{_TABLE}table":
                names.append(element.get(f"{_TABLE}name") or "")
            elif event == "end" and element.tag == f"{_TABLE}table-row":
                element.clear()
    return names


def ods_rows(source: Source, sheet: str) -> Iterator[Row]:
    """(row of the sheet, texts up to the last filled cell) for every row that is not blank."""
    number, inside = 0, False
    with _content(source) as stream:
        for event, element in iterparse(stream, ("start", "end")):
            if element.tag == f"{_TABLE}table":
                if inside and event == "end":
                    return
                inside = element.get(f"{_TABLE}name") == sheet
            elif event == "end" and element.tag == f"{_TABLE}table-row":
                texts = _texts(element) if inside else []
                times = _times(element, "rows")
                for at in range(times if texts else 0):
                    if number + at < MAX_ROWS:
                        yield number + at + 1, list(texts)
                number += times if inside else 0
                source.fraction = min(0.99, number / MAX_ROWS)
                element.clear()


@contextmanager
def _content(source: Source) -> Iterator[IO[bytes]]:
    """The XML of the sheets. Raises UserError for what is damaged, too large or protected."""
    with source.seekable() as file:
        try:
            with zipfile.ZipFile(file) as parts:
                size = sum(part.file_size for part in parts.infolist())
                if size > min(source.budget(), MAX_UNPACKED):
                    raise source.over_budget(min(source.budget(), MAX_UNPACKED))
                with parts.open("content.xml") as stream:
                    if b"<!DOCTYPE" in stream.read(4096):
                        raise ParseError("it declares entities")
                with parts.open("content.xml") as stream:
                    yield stream
        except _BROKEN as error:
            reason = (str(error).splitlines() or [""])[0][:120].strip(" .'\"")
            fix = "It is damaged or protected by a password. Save it again, or as CSV UTF-8."
            what = f"The spreadsheet cannot be read: {reason or type(error).__name__}."
            raise UserError(what, source.name, fix) from None


def _times(element: Element, what: str) -> int:
    return max(1, int(element.get(f"{_TABLE}number-{what}-repeated") or 1))


def _texts(row: Element) -> list[str]:
    texts: list[str] = []
    for cell in row:
        if cell.tag not in (f"{_TABLE}table-cell", f"{_TABLE}covered-table-cell"):
            continue
        times = min(_times(cell, "columns"), MAX_COLUMNS + 1)
        texts += [_cell_text(cell)] * times
        if len(texts) > 20 * MAX_COLUMNS:
            break
    while texts and not texts[-1].strip():
        texts.pop()
    return texts


def _cell_text(cell: Element) -> str:
    kind = cell.get(f"{_OFFICE}value-type")
    if kind in ("float", "currency"):
        value = cell.get(f"{_OFFICE}value") or ""
        return value.removesuffix(".0")
    if kind == "date":
        return (cell.get(f"{_OFFICE}date-value") or "").replace("T", " ")
    if kind == "boolean":
        return (cell.get(f"{_OFFICE}boolean-value") or "").upper()
    lines = ["".join(_pieces(part)) for part in cell if part.tag == f"{_TEXT}p"]
    return "\n".join(lines)


def _pieces(element: Element) -> Iterator[str]:
    """The text of a paragraph; several spaces, tabs and line breaks are elements of their own."""
    if element.tag == f"{_OFFICE}annotation":
        return
    yield element.text or ""
    for part in element:
        if part.tag == f"{_TEXT}s":
            yield " " * min(int(part.get(f"{_TEXT}c") or 1), 10_000)
        elif part.tag == f"{_TEXT}tab":
            yield "\t"
        elif part.tag == f"{_TEXT}line-break":
            yield "\n"
        else:
            yield from _pieces(part)
        yield part.tail or ""
