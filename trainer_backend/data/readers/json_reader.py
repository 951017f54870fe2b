"""Rows from JSON files: JSON Lines (https://jsonlines.org), an array, or one object.

One object is a row, a wrapped list of rows, or columns; it is read at once, all else is streamed.
"""

import re
from collections.abc import Iterator
from typing import Any

from trainer_backend.data.json_values import (
    MAX_COLUMNS,
    STRING,
    BadJSON,
    check_keys,
    end_of_value,
    parse,
    parse_at,
)
from trainer_backend.data.readers.options import MAX_LINE
from trainer_backend.data.readers.text_reader import TextFile
from trainer_backend.errors import UserError

MAX_WHOLE = 128 * 1024 * 1024  # characters of a file that is one object
_SPACE = " \t\r\n"
Rows = Iterator[tuple[int, dict]]  # (first line of the row, the row)


def json_layout(file: TextFile) -> str:
    """Detect "lines", "array" or "object" from the beginning of the text."""
    head = next(file.chunks(MAX_LINE), "").lstrip(_SPACE + "\ufeff")
    if head.startswith("["):
        return "array"
    if not head.startswith("{"):
        return "lines"
    first, *more = re.split(r"[\r\n]+", head, maxsplit=1)
    try:
        parse(first.rstrip())
    except BadJSON:
        opening_only = first.rstrip("{[ ").endswith((":", ",")) or not first.strip("{[ ")
        jsonl = file.name.lower().removesuffix(".gz").endswith(".jsonl")
        return "lines" if jsonl and not opening_only else "object"
    return "lines" if more and more[0].strip() else "object"


def read_json(file: TextFile, layout: str) -> Rows:
    """The rows of a file with that layout; damaged rows are reported.

    Raises UserError for a fault that is not inside one row.
    """
    readers = {"lines": _read_lines, "array": _read_array, "object": _read_object}
    return readers[layout](file)


def _read_lines(file: TextFile) -> Rows:
    for line in file.lines():
        if line.isspace():
            continue
        if file.undecoded(line):
            file.damage.report(file.line, file.not_decoded(file.line))
            continue
        try:
            row = _as_row(parse(line.rstrip(_SPACE)), file, file.line)
        except BadJSON as error:
            file.damage.report(file.line, _located(error, file, line, file.line))
        except UserError as error:
            file.damage.report(file.line, error)
        else:
            yield file.line, row


def _read_array(file: TextFile) -> Rows:
    """Parse one element after another out of a window over the text."""
    window = _Window(file)
    window.skip("[")
    if window.skip("]"):
        return
    while True:
        line, value, fault = window.value()
        if fault is None and _is_row(value):
            yield line, _as_row(value, file, line)
        else:
            file.damage.report(line, fault or _not_a_row(value, file, line))
        if window.skip(","):
            continue
        if window.skip("]"):
            break
        raise file.error(*window.expected(), line=window.line())
    if window.peek():
        raise file.error(
            "There is more text after the end of the list.", "Remove what follows.", window.line()
        )


class _Window:
    """The part of a JSON array that is in memory, from position `at` on."""

    def __init__(self, file: TextFile):
        self.file, self.chunks = file, file.chunks()
        self.text, self.at = "", 0
        self.counted, self.number = 0, 1  # the line number at position `counted`

    def more(self) -> bool:
        """Drop the text before `at` and read a chunk; False at the end of the file."""
        chunk = next(self.chunks, "")
        if not chunk:
            return False
        self.line()
        self.text, self.at, self.counted = self.text[self.at :] + chunk, 0, 0
        return True

    def _twice_as_much(self) -> bool:
        """Double the text after `at`, so that a large value is parsed only a few times."""
        wanted, grown = 2 * (len(self.text) - self.at), False
        while len(self.text) - self.at < wanted and self.more():
            grown = True
        try:
            check_keys(self.text)
        except BadJSON as error:
            raise self._located(error) from None
        return grown

    def line(self) -> int:
        """The line of position `at`."""
        self.number += self.text.count("\n", self.counted, self.at)
        self.counted = self.at
        return self.number

    def peek(self) -> str:
        """The next character that is not white space; "" at the end."""
        while True:
            end = len(self.text)
            while self.at < end and self.text[self.at] in " \t\r\n\ufeff":
                self.at += 1
            if self.at < end:
                return self.text[self.at]
            if not self.more():
                return ""

    def skip(self, mark: str) -> bool:
        """Whether `mark` is next; if so, go past it."""
        found = self.peek() == mark
        self.at += found
        return found

    def value(self) -> tuple[int, Any, UserError | None]:
        """(line, value, None) of the next element, or (line, None, why it is refused)."""
        self.peek()
        while True:
            value = fault = None
            end: int | None
            try:
                value, end = parse_at(self.text, self.at)
            except BadJSON as error:
                end = end_of_value(self.text, self.at)
                if end is None:  # not JSON, or not all of it has been read
                    too_much = error.too_deep or len(self.text) - self.at > MAX_LINE
                    if too_much or not self._twice_as_much():
                        raise self._located(error) from None
                    continue
                fault = self._located(error)
            line = self.line()
            if end - self.at > MAX_LINE:
                raise self.file.error("A row is longer than 16 MB.", "Split the row.", line)
            if self.file.undecoded(self.text[self.at : end]):
                fault = self.file.not_decoded(line)
            self.at = end
            return line, value, fault

    def expected(self) -> tuple[str, str]:
        """(what, fix) where neither a comma nor the end of the list follows a value."""
        if self.peek():
            return "Broken JSON: a comma is missing between two rows.", "Add the comma."
        return "Broken JSON: the list is not closed.", "The file is cut off: add the closing ]."

    def _located(self, error: BadJSON) -> UserError:
        return _located(error, self.file, self.text, self.line(), self.at)


def _read_object(file: TextFile) -> Rows:
    parts, size = [], 0
    for chunk in file.chunks():
        parts.append(chunk)
        size += len(chunk)
        if size > MAX_WHOLE:
            raise UserError(
                "One JSON object of this size cannot be read row by row.",
                file.name,
                "Save the rows as JSON Lines (.jsonl): one object a line.",
            )
    text = "".join(parts)
    if file.undecoded(text):
        raise file.not_decoded(1)
    if _top_keys(text[: 1 << 18]) > MAX_COLUMNS:
        what = f"The object has more than {MAX_COLUMNS:,} columns."
        raise UserError(what, file.name, "Keep only the columns that matter.")
    try:
        value = parse(text, wide=True)
    except BadJSON as error:
        raise _located(error, file, text, 1) from None
    for number, row in enumerate(_rows_of_object(value, file), start=1):
        yield number, _as_row(row, file, number)


def _top_keys(text: str) -> int:
    """Estimate the number of keys of the object that begins the (perhaps cut) text."""
    depth = keys = 0
    for mark in re.findall(r"[\[{\]}:]", STRING.sub("", text)):
        if mark == ":":
            keys += depth == 1
        else:
            depth += 1 if mark in "[{" else -1
    return keys


def _rows_of_object(value: dict, file: TextFile) -> list[dict]:
    wrapped = [key for key, item in value.items() if _is_rows(item)]
    chat = len(wrapped) == 1 and _is_chat(value[wrapped[0]])
    if len(wrapped) == 1 and not chat and wrapped[0] not in ("messages", "conversations"):
        return value[wrapped[0]]
    if 1 < len(wrapped) == len(value) and not any(_is_chat(value[key]) for key in wrapped):
        names = ", ".join(f"“{key[:40]}”" for key in wrapped[:5])
        what = f"The object holds several lists of rows: {names}."
        raise UserError(what, file.name, "Save each list as a file of its own.")
    columns = list(value.values())
    if columns and all(isinstance(column, dict) for column in columns):
        columns = [
            list(column.values()) for column in columns if column.keys() == columns[0].keys()
        ]
    if not columns or len(columns) != len(value):
        return [value]
    if not all(isinstance(column, list) and not _is_chat(column) for column in columns):
        return [value]
    lengths = {name: len(column) for name, column in zip(value, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        sizes = ", ".join(f"“{name}” {count}" for name, count in list(lengths.items())[:4])
        raise UserError(
            f"The columns have different lengths: {sizes}.",
            file.name,
            "Give every column the same number of values.",
        )
    return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _is_rows(item: Any) -> bool:
    return isinstance(item, list) and bool(item) and all(isinstance(row, dict) for row in item)


def _is_chat(column: list) -> bool:
    return _is_rows(column) and ("role" in column[0] or "from" in column[0])


def _as_row(value: Any, file: TextFile, line: int) -> dict:
    if isinstance(value, dict):
        return value
    if isinstance(value, str):
        return {"text": value}
    if _is_rows(value):  # the turns of a conversation
        return {"messages": value}
    raise _not_a_row(value, file, line)


def _is_row(value: Any) -> bool:
    return isinstance(value, dict | str) or _is_rows(value)


def _not_a_row(value: Any, file: TextFile, line: int) -> UserError:
    kind = {list: "a list", bool: "true or false", type(None): "null"}.get(type(value), "a number")
    return file.error(
        f"A row must be an object with named columns, but this is {kind}.",
        'Write each row like {"prompt": "…", "response": "…"}.',
        line,
    )


def _located(error: BadJSON, file: TextFile, text: str, line: int, at: int = 0) -> UserError:
    """The error with line and column in `text`, whose character `at` is on `line`."""
    if error.position is None:
        return file.error(error.what, error.fix, line)
    line += text.count("\n", at, error.position)
    column = error.position - text.rfind("\n", 0, error.position)
    return UserError(error.what, f"{file.name}, line {line}, column {column}", error.fix)
