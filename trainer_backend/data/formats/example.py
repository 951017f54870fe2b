"""Rows to meaning: one row under a mapping as an Example of messages or text.

The one reader of rows: files given to the app and datasets given to SFTTrainer mean the same here.
After this room nothing knows Alpaca or ShareGPT. No mapping is found, and no token is made.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from trainer_backend.data.formats.conversations import (
    OnImage,
    refuse_untaught,
    to_messages,
    with_system,
)
from trainer_backend.data.formats.detection import detect_format, turns_of
from trainer_backend.data.formats.mapping import ColumnMapping, columns_of, listed
from trainer_backend.data.images import ImageRef, cell_images, part_image, placed
from trainer_backend.data.json_values import BadJSON, cell_text, parse, plain_numbers
from trainer_backend.errors import RowError, TrainingDataError


@dataclass(frozen=True)
class Example:
    """One training example and the row it came from; exactly one of messages and text is set.

    `images` are ImageBytes fresh from the upload, or the names of pictures the dataset keeps
    (“images/<sha256>.png”); “<image>” in a text marks the place of one.
    """

    row: int
    messages: list[dict] | None
    text: str | None
    tools: list | None = None
    images: list[ImageRef] | None = None

    def as_row(self, system_prompt: str = "") -> dict:
        """What encode() takes, without the images: {"messages", "tools"?} or {"text"}."""
        if self.messages is None:
            return {"text": self.text}
        row = {"messages": plain_messages(with_system(self.messages, system_prompt))}
        return {**row, "tools": plain_numbers(self.tools)} if self.tools else row


def to_example(
    row_number: int, row: dict, mapping: ColumnMapping, system_prompt: str = ""
) -> Example:
    """One row as an Example; RowError says why it cannot be one."""
    if mapping.also:
        mapping = mapping.of_row(row)
    roles, inside = mapping.roles, []
    if mapping.format == "text":
        text = cell_text(row.get(roles["text"]))
        if not text.strip():
            raise RowError("The text is empty.", "Fill it in, or leave the row out.")
        return Example(row_number, None, text)
    asked, answer, tools = read_row(row, roles, lambda part: inside.append(part_image(part)))
    messages = asked + answer
    try:
        refuse_untaught(messages)
    except RowError:
        if answer:
            _refuse_empty_pair(asked[-1], answer[-1], roles["completion"] in row)
        raise
    messages = with_system(messages, system_prompt)
    images = cell_images(row.get(roles["images"])) if "images" in roles else []
    if inside or images:
        images = placed([message["content"] for message in messages], inside, images)
    return Example(row_number, messages, None, tools, images or None)


def read_row(
    row: dict,
    roles: dict[str, str],
    on_image: OnImage | None = None,
    text: Callable[[Any], str] = cell_text,
) -> tuple[list[dict], list[dict], list | None]:
    """A row of messages or of a pair as (asked, answer, tools); RowError if it cannot be read.

    The messages of a conversation are all asked. Whether they teach anything is not judged.
    `on_image` is given the image parts of messages, `text` reads cells that should be text.
    """
    if "messages" in roles:
        asked, answer = to_messages(row.get(roles["messages"]), on_image, text), []
    else:
        asked, answer = _pair(row, roles, on_image, text)
    if "system" in roles:
        own = text(row.get(roles["system"]))
        asked = with_system(asked, own if own.strip() else "")
    return asked, answer, _tools(row.get(roles["tools"])) if "tools" in roles else None


def _pair(
    row: dict, roles: dict[str, str], on_image: OnImage | None, text: Callable[[Any], str]
) -> tuple[list[dict], list[dict]]:
    prompt, completion = row.get(roles["prompt"]), row.get(roles["completion"])
    asked, answer = turns_of(prompt), turns_of(completion)
    if asked or answer:
        asked = asked or [{"role": "user", "content": text(prompt)}]
        answer = answer or [{"role": "assistant", "content": text(completion)}]
        return to_messages(asked, on_image, text), to_messages(answer, on_image, text)
    said, extra = text(prompt), text(row.get(roles["input"])) if "input" in roles else ""
    if extra.strip():
        said = f"{said}\n\n{extra}" if said.strip() else extra
    return [{"role": "user", "content": said}], [{"role": "assistant", "content": text(completion)}]


def _refuse_empty_pair(asked: dict, answer: dict, given: bool) -> None:
    if not answer["content"].strip() and "tool_calls" not in answer:
        what = "The answer is empty." if given else "The answer is missing."
        raise RowError(what, "Fill it in, or leave the row out.")
    if asked["role"] == "user" and not asked["content"].strip():
        raise RowError("The prompt is empty.", "Fill it in, or leave the row out.")


def plain_messages(messages: list[dict]) -> list[dict]:
    """Messages whose tool calls hold numbers as Python has them: templates write them as JSON."""
    return [one if len(one) == 2 else plain_numbers(one) for one in messages]


def _tools(value: Any) -> list | None:
    """The tools a row offers the model: a list, or the JSON text of one."""
    if isinstance(value, str) and value.strip():
        try:
            value = parse(value)
        except BadJSON:
            raise RowError("The tools are not JSON.", "Write them as a list of objects.") from None
    if not value:
        return None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise RowError("The tools are not a list of objects.", "Write them as a list of objects.")
    return [_wrapped(tool) for tool in value]


def _wrapped(tool: dict) -> dict:
    """A tool as chat templates expect it; older data gives the bare function."""
    if "name" in tool and not tool.keys() & {"function", "type"}:
        return {"type": "function", "function": tool}
    return tool


_EMPTY = (None, "", [])
TOKEN_COLUMNS = ("input_ids", "labels", "completion_mask", "assistant_masks")
ACCEPTED = (
    "prompt and completion, prompt and response, messages, conversations, "
    "instruction/input/output, text, or input_ids"
)


def refuse_image(part: dict) -> None:
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

    mappings: tuple[ColumnMapping, ...]
    text_field: str = "text"

    def example(
        self,
        row: Mapping,
        chat: bool = True,
        on_image: Callable[[dict], None] | None = refuse_image,
    ) -> dict:
        """A row as what encode() takes; `chat`: the tokenizer has a chat template.

        A pair becomes {"prompt", "completion"}, a conversation {"messages"}. `on_image` is given
        the image parts of messages. Raises TrainingDataError for a row that cannot be read.
        """
        if row.get("input_ids") is not None:
            return {name: row[name] for name in TOKEN_COLUMNS if row.get(name) is not None}
        columns = self._columns_of(row)
        roles = columns.roles
        if columns.format == "text":
            return {"text": row[roles["text"]]}
        try:
            example = _read(row, roles, chat, on_image)
        except (RowError, ValueError) as error:
            what, fix = getattr(error, "what", str(error)), getattr(error, "fix", "Correct it.")
            where = f"columns {listed(roles.values(), 4)}"
            raise TrainingDataError(what, where, fix) from error
        given = row.get("chat_template_kwargs")
        return {**example, "chat_template_kwargs": given} if given else example

    @cached_property
    def _needed(self) -> list[tuple[tuple[str, ...], ColumnMapping]]:
        return [(tuple(columns.needed()), columns) for columns in self.mappings]

    def _columns_of(self, row: Mapping) -> ColumnMapping:
        """The first mapping whose columns the row fills, or at least has."""
        for needed, columns in self._needed:
            for name in needed:
                if row.get(name) in _EMPTY:
                    break
            else:
                if columns.format != "text" or isinstance(row[needed[0]], str):
                    return columns
        return self._half_filled(row)

    def _half_filled(self, row: Mapping) -> ColumnMapping:
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
        promised.insert(0, ColumnMapping("text", {"text": text_field}))
    if promised and promised[0].format == "text" and text_field != "prompt":
        told, promised = [promised[0], *told], promised[1:]
    tools = {"tools": "tools"} if "tools" in columns else {}
    kinds: dict[tuple, ColumnMapping] = {}
    for one in [*told, *promised]:
        roles = {role: name for role, name in one.roles.items() if role != "images"}
        kinds.setdefault(tuple(one.needed()), ColumnMapping(one.format, tools | roles))
    return Reading(tuple(kinds.values()), text_field)


def as_example(row: Mapping, text_field: str = "text", chat: bool = True, **how) -> dict:
    """One row on its own as what encode() takes; the same as Reading.example()."""
    return find_reading([row], (), text_field).example(row, chat, **how)


def _promised(columns: Sequence[str], text_field: str) -> list[ColumnMapping]:
    """The mappings of the columns that SFTTrainer promises to read under these names."""
    pair, alpaca = "prompt_completion", {"prompt": "instruction", "completion": "output"}
    every = (
        ColumnMapping(pair, {"prompt": "prompt", "completion": "completion"}),
        ColumnMapping(pair, {"prompt": "prompt", "completion": "response"}),
        ColumnMapping("messages", {"messages": "messages"}),
        ColumnMapping("messages", {"messages": "conversations"}),
        ColumnMapping("text", {"text": text_field}),
        ColumnMapping("alpaca", alpaca | ({"input": "input"} if "input" in columns else {})),
    )
    return [one for one in every if set(one.needed()) <= set(columns)]


def _is_plain(cell: Any) -> bool:
    return isinstance(cell, str | int | float | list | tuple | dict | None)


def _read(row: Mapping, roles: dict[str, str], chat: bool, on_image) -> dict:
    if "messages" in roles:
        messages, _, tools = read_row(_parsed(row, roles["messages"]), roles, on_image, only_text)
        example = {"messages": plain_messages(messages)}
    else:
        if _continues(row, roles):
            return {"prompt": row["prompt"], "completion": row["completion"]}
        prompt, completion, tools = read_row(row, roles, on_image, only_text)
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
