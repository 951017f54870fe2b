"""Rows from delimited text (RFC 4180), with the delimiter detected and damage located.

A ragged row or an open quote is an error here, where csv.DictReader would shift or swallow cells.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from itertools import chain

from trainer_backend.data.readers.header import Below, find_header, sampled, uneven
from trainer_backend.data.readers.options import DELIMITERS, MAX_LINE
from trainer_backend.data.readers.text_reader import TextFile
from trainer_backend.errors import UserError

SAMPLE_LINES = 50
_SEP_LINE = re.compile(r"\ufeff?sep=([,;\t|])", re.IGNORECASE)  # Excel's line for the delimiter


def find_layout(file: TextFile, preferred: str, chosen: str | None = None) -> str:
    """The delimiter that gives the first 50 lines equally many cells, and how text is written.

    After the delimiter, a space means that such a space is not part of the text, a double quote
    that quotes are part of it (tab-separated text often has them undoubled), a single quote that
    text stands in single quotes, a backslash that quotes inside a text are written with one.
    """
    sample = _sample(file)
    if sample and (given := _SEP_LINE.fullmatch(sample[0].strip("\r\n "))):
        return _with_quotes(given[1], sample[1:])
    order = (preferred, *(mark for mark in DELIMITERS if mark != preferred))
    order = (chosen,) if chosen else order
    fits = {mark: _sample_fit(sample, mark) for mark in order if sample and mark in sample[0]}
    wide = [mark for mark in fits if fits[mark][0] > 1]
    steady = [mark for mark in wide if fits[mark][1]]
    if not steady:
        for mark in wide:
            spaced = any(f'{mark} "' in line for line in sample)
            if spaced and _sample_fit(sample, f"{mark} ")[1]:
                return f"{mark} "
    if "\t" in wide and steady in ([], ["\t"]) and not _parses(sample[:-1], "\t"):
        if _sample_fit(sample, '\t"')[1]:
            return '\t"'
    below = [] if steady else [mark for mark in order if _fits_below(sample, mark)]
    return _with_quotes((steady or below or wide or [chosen or preferred])[0], sample)


def _fits_below(sample: list[str], mark: str) -> bool:
    """Whether all lines below a few titles have equally many cells, and more than one."""
    for at in range(1, min(10, len(sample) - 1)):
        if mark in sample[at]:
            width, steady = _sample_fit(sample[at:], mark)
            return width > 1 and steady
    return False


def _with_quotes(mark: str, sample: list[str]) -> str:
    """The delimiter, and the sign for another way of quoting if that alone fits the sample."""
    if any('\\"' in line for line in sample) and not _parses(sample, mark):
        if _parses(sample, f"{mark}\\"):
            return f"{mark}\\"
    begins = sum(line.startswith("'") for line in sample)
    if begins and begins == len(sample) and _parses(sample, f"{mark}'"):
        return f"{mark}'"
    return mark


def _sample(file: TextFile) -> list[str]:
    sample: list[str] = []
    size = 0
    for line in file.lines():
        sample.append(line)
        size += len(line)
        if len(sample) >= SAMPLE_LINES or size > 1 << 20:
            break
    return sample


def _reader(lines: Iterable[str], layout: str) -> Iterator[list[str]]:
    return csv.reader(
        lines,
        delimiter=layout[0],
        quoting=csv.QUOTE_NONE if layout[1:] == '"' else csv.QUOTE_MINIMAL,
        quotechar="'" if layout[1:] == "'" else '"',
        escapechar="\\" if layout[1:] == "\\" else None,
        doublequote=layout[1:] != "\\",
        skipinitialspace=layout[1:] == " ",
        strict=True,
    )


def _parses(sample: list[str], layout: str) -> bool:
    try:
        return len({len(record) for record in _reader(sample, layout) if record}) == 1
    except csv.Error:
        return False


def _sample_fit(sample: list[str], layout: str) -> tuple[int, bool]:
    """(cells of the header, whether every complete record of the sample has as many)."""
    widths = []
    try:
        for record in _reader(sample, layout):
            if record and (len(record) > 1 or record[0].strip()):
                widths.append(len(record))
    except csv.Error:
        pass  # the sample may end inside a quoted text
    if not widths:
        return 0, False
    return widths[0], len(set(widths)) == 1


class _Feed:
    """The lines given to csv.reader, with what locates a fault in the current record."""

    def __init__(self, file: TextFile):
        self.file, self.lines, self.size = file, file.lines(), 0
        self.quoted: list[tuple[int, str]] = []  # the record's lines with quotes
        self.nul = ""  # where the record holds a NUL character
        self.has_header = False

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        if '"' in line:
            self.quoted.append((self.file.line, line))
        self.size += len(line)
        if self.size > MAX_LINE:
            raise csv.Error("unexpected end of data")
        if "\0" in line and not self.nul:
            column = line.index("\0") + 1
            self.nul = f"{self.file.name}, line {self.file.line}, column {column}"
        return line

    def leave_out(self, start: int, fault: UserError) -> None:
        """Report the record as damaged; raise its fault if it is the header."""
        if not self.has_header:
            raise fault
        if self.file.line > start:  # the lines inside it are left out too
            fault.what += f" (The row is lines {start:,} to {self.file.line:,}.)"
        self.file.damage.report(start, fault)


def read_records(file: TextFile, layout: str) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, cells) for every record, header included; skips blank lines.

    Raises UserError for an open quote; other damaged records are reported.
    """
    csv.field_size_limit(MAX_LINE + 1)
    file.line, feed = 0, _Feed(file)
    reader = _reader(feed, layout)
    while True:
        feed.quoted.clear()
        feed.size, feed.nul, start = 0, "", file.line + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fault = _csv_error(feed, start, layout[0], str(error))
            if "end of data" in str(error):  # everything after the quote was swallowed
                raise fault from None
            feed.leave_out(start, fault)
            continue
        if feed.nul:
            fix = "Remove the character, or save the file as UTF-8 text again."
            feed.leave_out(start, UserError("The text holds a NUL character.", feed.nul, fix))
        elif record and (len(record) > 1 or record[0].strip()):
            feed.has_header = True
            yield start, record


def _csv_error(feed: _Feed, start: int, delimiter: str, message: str) -> UserError:
    file = feed.file
    if "end of data" in message:
        return file.error(
            "A quote is opened and never closed.",
            'Close it, or write " inside a text as "" (two quotes).',
            _open_quote(feed.quoted, delimiter),
        )
    if "expected after" in message:
        return file.error(
            "Text follows a closing quote.",
            'Put the quotes around the whole text, and write " inside it as "" (two quotes).',
        )
    return file.error(f"The row cannot be read: {message}.", "Correct the row.", start)


def _open_quote(quoted: list[tuple[int, str]], delimiter: str) -> int:
    """The line in which the unclosed quote opens."""
    inside, opened = False, 0
    for number, line in quoted:
        at_start = not inside
        for letter in line:
            if inside:
                inside = letter != '"'  # a doubled quote closes and opens again at once
            elif letter == '"' and at_start:
                inside, opened = True, number
            at_start = letter in (delimiter, '"')
    return opened


def read_csv(
    file: TextFile, layout: str, header_row: int | None = None
) -> Iterator[tuple[int, dict]]:
    """(line, row) for every record under the header; ragged records are reported as damaged.

    Titles above the header and notes below the table are left out, and named in a note.
    """
    records = _table_records(file, layout)
    sample = sampled(records)
    if not sample:
        return
    header = find_header(sample, header_row, f"{file.name}, line", "line")
    if file.undecoded("".join(header.columns)):
        raise file.not_decoded(header.row)
    file.damage.notes += [header.note] if header.note else []
    columns, below = header.columns, Below(len(header.columns), "line")
    width = len(columns)
    for one in chain((row for row in sample if row[0] > header.row), records):
        if len(one[1]) == width and not below.held and not file.keeps_bytes:
            below.last = one[0]
            yield one[0], dict(zip(columns, one[1], strict=True))
            continue
        for line, record in below.passed(one):
            while len(record) > width and not record[-1]:
                record.pop()  # the rows end with a delimiter, the header does not
            if len(record) != width:
                fault = _ragged(file, line, len(record), width, layout[0])
                fault.offer = {"header_row": header.instead} if header.instead else None
                file.damage.report(line, fault)
            elif file.keeps_bytes and file.undecoded("".join(record)):
                file.damage.report(line, file.not_decoded(line))
            else:
                yield line, dict(zip(columns, record, strict=True))
    file.damage.notes += [below.note()] if below.note() else []


def _table_records(file: TextFile, layout: str) -> Iterator[tuple[int, list[str]]]:
    """The records without Excel's line for the delimiter; blank lines are one without cells."""
    end = 0
    for line, record in read_records(file, layout):
        if line > end + 1 and end:
            yield line - 1, []
        if end or not _SEP_LINE.fullmatch(layout[0].join(record)):
            yield line, record
        end = file.line


def _ragged(file: TextFile, line: int, found: int, width: int, delimiter: str) -> UserError:
    mark = DELIMITERS[delimiter]
    fix = f"Fill in the row: a missing value still needs its {mark}."
    if found > width:
        fix = f"Put text that holds a {mark} in double quotes."
    return file.error(uneven(found, width), fix, line)
