"""The rows of one JSON object: columns, rows by name, a wrapped list, a table of pandas.

Each way of writing a table is recognised by its shape, and said in a note; any other object is one
row. Text is not parsed here.
"""

from typing import Any

from trainer_backend.data.readers.options import listed
from trainer_backend.errors import UserError

# names that columns have and rows do not: they decide where an object of objects may be either
_COLUMN_NAMES = frozenset(
    "prompt completion response instruction input output question answer answers query context "
    "system messages conversations conversation text content chosen rejected label user assistant "
    "reply target source title".split()
)
_SAYS = ("content", "value", "text", "parts", "message", "tool_calls", "function_call")


def rows_of_object(value: dict, name: str) -> tuple[list, str]:
    """(the rows in the object, a note on where they were found or "").

    Raises UserError for several lists of rows, and for columns of different lengths; `name` is the
    file's.
    """
    table = _split_table(value)
    if table is not None:
        return table, "The rows are the lists in “data”, their columns are named in “columns”."
    rows = value.get("rows")
    if "features" in value and rows and is_rows(rows) and all("row" in row for row in rows):
        return [row["row"] for row in rows], "The rows are the objects “row” of the list “rows”."
    lists = [key for key, item in value.items() if is_rows(item)]
    named_chat = lists[:1] in (["messages"], ["conversations"])
    if len(lists) == 1 and not named_chat and not is_chat(value[lists[0]]):
        others = [key for key in value if key != lists[0]]
        unused = f" Not used: {listed(others, 6)}." if others else ""
        return value[lists[0]], f"The rows are the list “{lists[0][:60]}” of the object.{unused}"
    if 1 < len(lists) == len(value) and not any(is_chat(value[key]) for key in lists):
        what = f"The object holds several lists of rows: {listed(lists, 5)}."
        raise UserError(what, name, "Save each list as a file of its own.")
    if _is_by_row(value):
        first = next(iter(value))
        note = f"Each object of the file (“{str(first)[:60]}”, …) is a row; its name is not used."
        return list(value.values()), note
    return _columns(value, name)


def _split_table(value: dict) -> list[dict] | None:
    """The rows of pandas' orient="split" and "tight": {"columns", "index", "data"}."""
    columns, data = value.get("columns"), value.get("data")
    if not (isinstance(columns, list) and isinstance(data, list) and columns):
        return None
    names = [".".join(map(str, one)) if isinstance(one, list) else str(one) for one in columns]
    if len(set(names)) < len(names):
        return None
    if not all(isinstance(row, list) and len(row) == len(names) for row in data):
        return None
    return [dict(zip(names, row, strict=True)) for row in data]


def _is_by_row(value: dict) -> bool:
    """Whether an object of objects holds rows by name (orient="index"), not columns."""
    rows = list(value.values())
    if not rows or not all(isinstance(row, dict) and row for row in rows):
        return False
    if any(str(key).casefold() in _COLUMN_NAMES for key in value):
        return False
    inner = [str(key).casefold() for row in rows for key in row]
    if any(key in _COLUMN_NAMES for key in inner):
        return True
    if all(row.keys() == rows[0].keys() for row in rows):
        outer_counts = all(key.isdecimal() for key in value)
        return outer_counts and not all(key.isdecimal() for key in inner)
    return False


def _columns(value: dict, name: str) -> tuple[list[dict], str]:
    columns = list(value.values())
    if columns and all(isinstance(column, dict) for column in columns):
        columns = [
            list(column.values()) for column in columns if column.keys() == columns[0].keys()
        ]
    if not columns or len(columns) != len(value):
        return [value], ""
    if not all(isinstance(column, list) and not is_chat(column) for column in columns):
        return [value], ""
    lengths = {key: len(column) for key, column in zip(value, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        sizes = ", ".join(f"“{key[:60]}” {count}" for key, count in list(lengths.items())[:4])
        raise UserError(
            f"The columns have different lengths: {sizes}.",
            name,
            "Give every column the same number of values.",
        )
    rows = [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
    return rows, "Each list of the object is a column."


def is_rows(item: Any) -> bool:
    """Whether a value is a list of objects."""
    return isinstance(item, list) and bool(item) and all(isinstance(row, dict) for row in item)


def is_chat(column: Any) -> bool:
    """Whether a value is a list of turns: objects that say who speaks, and what."""
    return is_rows(column) and _is_turn(column[0])


def _is_turn(row: dict) -> bool:
    speaks = "role" in row or "from" in row
    return speaks and any(key in row for key in _SAYS)


def names_columns(row: list) -> bool:
    """Whether a list of cells is the header of the lists that follow it."""
    return (
        len(row) > 1
        and all(isinstance(cell, str) for cell in row)
        and len(set(row)) == len(row)
        and any(cell.strip().casefold() in _COLUMN_NAMES for cell in row)
    )
