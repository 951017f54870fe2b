"""Rows from JSON files: JSON Lines (https://jsonlines.org), lists, objects one after another.

One object is a row, a wrapped list of rows, or columns; it is read at once, all else is streamed.
"""

import re
from collections.abc import Iterator
from typing import Any

from trainer_backend.data.json_values import (
    MAX_COLUMNS,
    MAX_KEYS,
    STRING,
    BadJSON,
    check_keys,
    end_of_value,
    parse,
    parse_at,
)
from trainer_backend.data.readers.json_objects import (
    is_chat,
    is_rows,
    names_columns,
    rows_of_object,
)
from trainer_backend.data.readers.options import MAX_LINE
from trainer_backend.data.readers.text_reader import TextFile
from trainer_backend.errors import UserError

MAX_WHOLE = 128 * 1024 * 1024  # characters of a file that is one object
SAMPLE_LINES = 50  # looked at to see whether each line is a value
_SPACE = " \t\r\n"
_BETWEEN = _SPACE + "\ufeff"  # a mark in the middle is left over from joining files
LAYOUTS = {
    "lines": "one object a line",
    "array": "one list of rows",
    "object": "one object",
    "stream": "objects or lists of rows one after another",
    "lists": "one list a row",
}  # with words for a sentence
Rows = Iterator[tuple[int, dict]]  # (first line of the row, the row)


def json_layout(file: TextFile) -> str:
    """Detect one of LAYOUTS from the beginning of the text."""
    head = next(file.chunks(MAX_LINE), "").lstrip(_BETWEEN)
    if head.startswith("["):
        return _layout_of_lists(head)
    if not head.startswith("{"):
        return "lines"
    first, *more = re.split(r"[\r\n]+", head, maxsplit=1)
    try:
        parse(first.rstrip())
    except BadJSON:
        if _is_followed(head, "{["):
            return "stream"
        opening_only = first.rstrip("{[ ").endswith((":", ",")) or not first.strip("{[ ")
        jsonl = file.name.lower().removesuffix(".gz").endswith(".jsonl")
        return "lines" if jsonl and not opening_only else "object"
    if not more or not more[0].strip():
        return "object"
    lines = [line.strip() for line in more[0].split("\n", SAMPLE_LINES)]
    opened = (
        line == "{" and not after.startswith("{")
        for line, after in zip(lines[:-1], lines[1:], strict=True)
    )
    return "stream" if any(opened) else "lines"


def _layout_of_lists(head: str) -> str:
    """Whether a text that begins with a list is that list, or more follow it."""
    if not _is_followed(head, "[{"):
        return "array"
    first, _ = parse_at(head)
    cells = not any(isinstance(item, dict | list) for item in first)
    return "lists" if first and (cells or is_chat(first)) else "stream"


def _is_followed(head: str, marks: str) -> bool:
    """Whether the value that begins the text is followed by another one, or by a comma."""
    end = None if head.count('":') > MAX_KEYS else end_of_value(head, 0)
    if end is None:  # broken, very large, or cut off: pretty-printed objects begin a line each
        return head.startswith("{") and len(re.findall(r"^\{\s*$", head, re.MULTILINE)) > 1
    rest = head[end : end + 10_000].lstrip(_BETWEEN)
    if rest.startswith(","):
        rest = rest[1:].lstrip(_BETWEEN) or marks
    return rest[:1] != "" and rest[0] in marks and _is_valid(head)


def _is_valid(head: str) -> bool:
    """Whether the first value is what it seems to be."""
    try:
        parse_at(head)
    except BadJSON:
        return not head.startswith("[")  # a fault inside a row is reported when it is read
    return True


def read_json(file: TextFile, layout: str) -> Rows:
    """The rows of a file with that layout; damaged rows are reported.

    Raises UserError for a fault that is not inside one row.
    """
    if layout == "lines":
        return _read_lines(file)
    return _read_object(file) if layout == "object" else _read_values(file, layout == "lists")


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


def _read_values(file: TextFile, lists: bool) -> Rows:
    """Parse one value after another out of a window over the text.

    A list holds rows; with `lists` each list is a row. Commas between values do not count.
    """
    window = _Window(file)
    columns: list[str] = []
    while mark := window.peek():
        if mark == ",":
            window.skip(",")
        elif mark == "[" and not lists:
            yield from _read_items(window)
        elif mark in '{["':
            line, value, fault = window.value_or_next_line()
            if not columns and isinstance(value, list) and names_columns(value):
                columns = value
                continue
            yield from _reported(file, line, value, fault, columns)
        else:
            more = window.text[window.at : window.at + 20].split("\n")[0]
            more = more.encode("utf-8", "replace").decode()
            what = f"There is more text after the end of the JSON: “{more}”."
            fix = "Remove it, or write a row as an object: {…}."
            raise file.error(what, fix, window.line())


def _read_items(window: "_Window") -> Rows:
    """The elements of the list that begins here."""
    window.skip("[")
    if window.skip("]"):
        return
    file, columns = window.file, list[str]()
    while True:
        line, value, fault = window.value_or_end()
        if fault is None and type(value) is dict:
            yield line, value
        elif isinstance(value, list) and not columns and names_columns(value):
            columns = value
        elif fault is None or line:
            yield from _reported(file, line, value, fault, columns)
        if window.skip(","):
            continue
        if window.skip("]"):
            return
        if window.peek():
            raise file.error(*_NO_COMMA, line=window.line())
        if file.damage.skip:
            file.damage.notes.append("The list is not closed: the file seems to be cut off.")
            return
        error = file.error(*_NOT_CLOSED, line=window.line())
        error.code, error.offer = "damaged", {"skip_damaged": True}
        raise error


def _reported(
    file: TextFile, line: int, value: Any, fault: UserError | None, columns: list[str]
) -> Rows:
    """The row that a value is; if it is none, that is reported as damage."""
    if fault is None:
        try:
            row = _as_row(value, file, line, columns)
        except UserError as error:
            fault = error
        else:
            yield line, row
            return
    file.damage.report(line, fault)


_NO_COMMA = ("Broken JSON: a comma is missing between two rows.", "Add the comma.")
_NOT_CLOSED = ("Broken JSON: the list is not closed.", "The file is cut off: add the closing ].")


class _CutOff(Exception):
    """The text ends inside a value; `fault` says so."""

    def __init__(self, fault: UserError):
        super().__init__(fault.what)
        self.fault = fault


class _Window:
    """The part of a JSON text that is in memory, from position `at` on."""

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
            while self.at < end and self.text[self.at] in _BETWEEN:
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
                    if too_much:
                        raise self._located(error) from None
                    if not self._twice_as_much():
                        if error.cut_off:
                            raise _CutOff(self._located(error)) from None
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

    def value_or_end(self) -> tuple[int, Any, UserError | None]:
        """The same; the last element of a file that is cut off is a fault, not an error."""
        try:
            return self.value()
        except _CutOff as cut:
            self.at = len(self.text)
            return self.line(), None, cut.fault

    def value_or_next_line(self) -> tuple[int, Any, UserError | None]:
        """The same; after a broken value, reading goes on where a line begins an object."""
        try:
            return self.value()
        except (_CutOff, UserError) as error:
            fault = error.fault if isinstance(error, _CutOff) else error
        line = self.line()
        begins = self.text.find("\n{", self.at + 1)
        while begins < 0 and len(self.text) - self.at < MAX_LINE and self._twice_as_much():
            begins = self.text.find("\n{", self.at + 1)
        self.at = len(self.text) if begins < 0 else begins + 1
        while begins < 0 and self.more():
            self.at = len(self.text)
        return line, None, fault

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
    rows, note = rows_of_object(value, file.name)
    if note:
        file.damage.notes.append(note)
    for number, row in enumerate(rows, start=1):
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


def _as_row(value: Any, file: TextFile, line: int, columns: list[str] | None = None) -> dict:
    if isinstance(value, dict):
        return value
    if isinstance(value, str):
        return {"text": value}
    if is_rows(value):  # the turns of a conversation
        return {"messages": value}
    plain = isinstance(value, list) and not any(isinstance(one, dict | list) for one in value)
    if columns is not None and plain and any(isinstance(one, str) for one in value):
        names = columns or [f"column {at}" for at in range(1, len(value) + 1)]
        if len(names) == len(value) <= MAX_COLUMNS:
            return dict(zip(names, value, strict=True))
    raise _not_a_row(value, file, line)


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
