"""Columns whose cells are small objects: each of their parts becomes a column of its own.

Conversations and tools stay as they are. Whether the rows are understood without is not known.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from trainer_backend.data.formats.cells import all_of, bare_calls, turns_of
from trainer_backend.data.formats.columns.unreadable import CHOICES
from trainer_backend.data.formats.mapping import EMPTY, columns_of, listed, plain_name
from trainer_backend.data.json_values import NumberText

MAX_PARTS = 8
_ANSWERS = ("answers", "answer")
_NOT_PARTS = {"role", "from", "type", "function", "parameters", "bytes", "path", "image"}


def find_nested(rows: Sequence[dict]) -> list[str]:
    """The columns of objects with the same few plain parts in all filled cells."""
    columns = columns_of(rows)
    names = [name for name in columns if any(isinstance(row.get(name), dict) for row in rows)]
    return [name for name in names if _is_nested(rows, name, columns)]


def _is_nested(rows: Sequence[dict], name: str, columns: Sequence[str]) -> bool:
    cells = [row[name] for row in rows if row.get(name) not in EMPTY]
    if (
        plain_name(name) in CHOICES
        or not all_of(_is_plain_object, cells)
        or any(turns_of(cell) for cell in cells[:20])
    ):
        return False
    keys = {key for cell in cells for key in cell}
    return len(keys) <= MAX_PARTS and not any(f"{name}.{key}" in columns for key in keys)


def _is_plain_object(cell: Any) -> bool:
    if not isinstance(cell, dict) or not cell or _NOT_PARTS & cell.keys() or bare_calls([cell]):
        return False
    return all(_is_plain(value) for value in cell.values())


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, str | int | float | NumberText) for one in value)
    return value is None or isinstance(value, str | int | float | NumberText)


def opened(
    rows: Iterable[tuple[int, dict]], names: Sequence[str], on_end: Callable[[str], None]
) -> Iterator[tuple[int, dict]]:
    """The rows with the parts of `names` as columns: {"a": {"b": 1}} → {"a.b": 1}.

    Of several texts of an answer the first is taken. `on_end` is given a sentence on what was done.
    """
    firsts: dict[str, int] = {}
    for number, row in rows:
        yield number, _opened(row, names, firsts)
    sentence = f"The parts of {listed(names, 6)} are columns of their own, as “{names[0]}.…”."
    for name, count in firsts.items():
        sentence += f" Of several texts in “{name}” only the first is used ({count:,} rows)."
    on_end(sentence)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _opened(row: dict, names: Sequence[str], firsts: dict[str, int]) -> dict:
    flat: dict[str, Any] = {}
    for name, cell in row.items():
        if name not in names or not isinstance(cell, dict):
            flat[name] = cell
            continue
        for key, value in cell.items():
            if plain_name(name) in _ANSWERS and _is_texts(value):
                if len(set(value)) > 1:
                    firsts[f"{name}.{key}"] = firsts.get(f"{name}.{key}", 0) + 1
                value = value[0] if value else ""
            flat[f"{name}.{key}"] = value
    return flat
