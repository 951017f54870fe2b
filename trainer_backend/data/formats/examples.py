"""Rows of a dataset handed to SFTTrainer as what encode() takes: which columns are read, and how.

What a row means is told by the same rules as a file's in the app. Here is only what a library
adds to them: the columns promised by name, token ids, text that is continued without a chat
template, and the refusal of cells whose text is not certain. No token is made here.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from trainer_backend.data.formats.column_names import columns_of, listed
from trainer_backend.data.formats.detection import detect_format, turns_of
from trainer_backend.data.formats.example import plain_messages, read_row
from trainer_backend.data.formats.mapping import Mapping as Columns
from trainer_backend.data.json_values import plain_numbers
from trainer_backend.errors import RowError, TrainingDataError

_EMPTY = (None, "", [])
TOKEN_COLUMNS = ("input_ids", "labels", "completion_mask", "assistant_masks")
ACCEPTED = (
    "prompt and completion, prompt and response, messages, conversations, "
    "instruction/input/output, text, or input_ids"
)


def refuse_picture(part: dict) -> None:
    """Raise RowError: a message holds an image, and its dataset has no column of images."""
    raise RowError(
        "A message holds an image, and the dataset has no column “images”.",
        "Add the images in a column of their own, or keep only the text of such rows.",
    )


def only_text(value: Any) -> str:
    """Text as it is, nothing as no text; RowError for a number, which may have been 1.0 or 1.00."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    raise RowError(f"A cell holds {value!r:.60}, not text.", "Write it as text.")


@dataclass(frozen=True)
class Reading:
    """How the rows of a dataset are read: the mappings that are tried in turn for each row."""

    mappings: tuple[Columns, ...]
    text_field: str = "text"

    def example(
        self,
        row: Mapping,
        chat: bool = True,
        on_picture: Callable[[dict], None] | None = refuse_picture,
    ) -> dict:
        """A row as what encode() takes; `chat`: the tokenizer has a chat template.

        A pair becomes {"prompt", "completion"}, a conversation {"messages"}. `on_picture` is given
        the image parts of messages. Raises TrainingDataError for a row that cannot be read.
        """
        if row.get("input_ids") is not None:
            return {name: row[name] for name in TOKEN_COLUMNS if row.get(name) is not None}
        columns = self._columns_of(row)
        roles = columns.roles
        if columns.format == "text":
            return {"text": row[roles["text"]]}
        try:
            example = _read(row, roles, chat, on_picture)
        except (RowError, ValueError) as error:
            what, fix = getattr(error, "what", str(error)), getattr(error, "fix", "Correct it.")
            where = f"columns {listed(roles.values(), 4)}"
            raise TrainingDataError(what, where, fix) from error
        given = row.get("chat_template_kwargs")
        return {**example, "chat_template_kwargs": given} if given else example

    @cached_property
    def _needed(self) -> list[tuple[tuple[str, ...], Columns]]:
        return [(tuple(columns.needed()), columns) for columns in self.mappings]

    def _columns_of(self, row: Mapping) -> Columns:
        """The first mapping whose columns the row fills, or at least has."""
        for needed, columns in self._needed:
            for name in needed:
                if row.get(name) in _EMPTY:
                    break
            else:
                if columns.format != "text" or isinstance(row[needed[0]], str):
                    return columns
        return self._half_filled(row)

    def _half_filled(self, row: Mapping) -> Columns:
        for needed, columns in self._needed:
            cells = [row.get(name) for name in needed]
            if None not in cells and (columns.format != "text" or isinstance(cells[0], str)):
                return columns
        raise TrainingDataError(
            f"No training text was found in the columns {', '.join(map(str, row)) or '(none)'}.",
            f"dataset columns (dataset_text_field={self.text_field!r})",
            f"Give one of: {ACCEPTED}; or pass formatting_func.",
        )


def find_reading(
    rows: Sequence[dict], columns: Iterable[str] = (), text_field: str = "text"
) -> Reading:
    """How a dataset is read, told from its first rows and the names of all its columns."""
    rows = [{name: cell for name, cell in row.items() if _is_plain(cell)} for row in rows]
    columns = list(dict.fromkeys([*columns, *columns_of(rows)]))
    promised = _promised(columns, text_field)
    found = detect_format(rows)
    told = [found.mapping, *found.mapping.also] if found.sure else []
    if text_field not in ("text", "prompt") and text_field in columns:
        promised.insert(0, Columns("text", {"text": text_field}))
    if promised and promised[0].format == "text" and text_field != "prompt":
        told, promised = [promised[0], *told], promised[1:]
    tools = {"tools": "tools"} if "tools" in columns else {}
    kinds: dict[tuple, Columns] = {}
    for one in [*told, *promised]:
        roles = {role: name for role, name in one.roles.items() if role != "images"}
        kinds.setdefault(tuple(one.needed()), Columns(one.format, tools | roles))
    return Reading(tuple(kinds.values()), text_field)


def as_example(row: Mapping, text_field: str = "text", chat: bool = True, **how) -> dict:
    """One row on its own as what encode() takes; the same as Reading.example()."""
    return find_reading([row], (), text_field).example(row, chat, **how)


def _promised(columns: Sequence[str], text_field: str) -> list[Columns]:
    """The mappings of the columns that SFTTrainer promises to read under these names."""
    pair, alpaca = "prompt_completion", {"prompt": "instruction", "completion": "output"}
    every = (
        Columns(pair, {"prompt": "prompt", "completion": "completion"}),
        Columns(pair, {"prompt": "prompt", "completion": "response"}),
        Columns("messages", {"messages": "messages"}),
        Columns("messages", {"messages": "conversations"}),
        Columns("text", {"text": text_field}),
        Columns("alpaca", alpaca | ({"input": "input"} if "input" in columns else {})),
    )
    return [one for one in every if set(one.needed()) <= set(columns)]


def _is_plain(cell: Any) -> bool:
    return isinstance(cell, str | int | float | list | tuple | dict | None)


def _read(row: Mapping, roles: dict[str, str], chat: bool, on_picture) -> dict:
    if "messages" in roles:
        messages, _, tools = read_row(_parsed(row, roles["messages"]), roles, on_picture, only_text)
        example = {"messages": plain_messages(messages)}
    else:
        if _continues(row, roles):
            return {"prompt": row["prompt"], "completion": row["completion"]}
        prompt, completion, tools = read_row(row, roles, on_picture, only_text)
        if not chat and _is_text(row[roles["prompt"]]) and _is_text(row[roles["completion"]]):
            return _as_text(prompt, completion[0]["content"])
        example = {"prompt": plain_messages(prompt), "completion": plain_messages(completion)}
    return {**example, "tools": plain_numbers(tools)} if tools else example


def _continues(row: Mapping, roles: dict[str, str]) -> bool:
    """Whether the row is a text and its continuation, which no chat template comes between."""
    if roles["prompt"] != "prompt" or roles["completion"] != "completion" or "system" in roles:
        return False
    return _is_text(row["prompt"]) and _is_text(row["completion"])


def _is_text(cell: Any) -> bool:
    return isinstance(cell, str) and not turns_of(cell)


def _as_text(prompt: list[dict], answer: str) -> dict:
    said = "\n\n".join(message["content"] for message in prompt)
    seam = "" if said[-1:].isspace() or answer[:1].isspace() else "\n"
    return {"prompt": said + seam, "completion": answer}


def _parsed(row: Mapping, column: str) -> Mapping:
    """The row with its JSON text of messages as a list; text that is none is left as it is."""
    if not isinstance(row[column], str):
        return row
    try:
        return {**row, column: json.loads(row[column])}
    except json.JSONDecodeError:
        return row
