"""One row as one training example under a column mapping: messages, or plain text.

The app (rows of an upload) and the library (rows of a dataset given to SFTTrainer) read rows with
the same code, so that the same row gives the same messages. Nothing is tokenized here.
"""

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer_backend.data.formats.cells import (
    bare_calls,
    history_turns,
    joined_texts,
    mark_of,
    transcript_turns,
    turns_of,
)
from trainer_backend.data.formats.columns.preference import best_answer
from trainer_backend.data.formats.conversations import (
    FILL_IN,
    Note,
    OnImage,
    ReadText,
    Say,
    Ways,
    keep_quiet,
    read_tools,
    refuse_untaught,
    system_text,
    to_messages,
    with_system,
)
from trainer_backend.data.formats.detection import PREFERENCE, UNUSED, detect_format
from trainer_backend.data.formats.mapping import EMPTY, ColumnMapping, columns_of, listed
from trainer_backend.data.images import ImageRef, cell_images, part_image, placed
from trainer_backend.data.json_values import cell_text, plain_numbers
from trainer_backend.errors import RowError, TrainingDataError

TOKEN_COLUMNS = ("input_ids", "labels", "completion_mask", "assistant_masks")
_TWO_SYSTEMS = Note(
    "two_systems",
    "The row has a system text in a column of its own and a system message; the message is used.",
    "Keep only one of the two, or join them.",
    "warning",
)
ACCEPTED = (
    "prompt and completion, prompt and response, messages, conversations, "
    "instruction/input/output, text, or input_ids"
)


@dataclass(frozen=True)
class Example:
    """One training example and the number of its row; exactly one of messages and text is set.

    `images` are ImageBytes of an upload, or names of stored images (“images/<sha256>.png”);
    “<image>” in a text marks the place of one. `notes` is what is to be said about the row.
    """

    row: int
    messages: list[dict] | None
    text: str | None
    tools: list | None = None
    images: Sequence[ImageRef] | None = None
    notes: tuple[Note, ...] = ()

    def as_row(self, system_prompt: str = "") -> dict:
        """What encode() takes, without the images: {"messages", "tools"?} or {"text"}."""
        if self.messages is None:
            return {"text": self.text}
        row = {"messages": plain_messages(with_system(self.messages, system_prompt))}
        return {**row, "tools": plain_numbers(self.tools)} if self.tools else row


# The app: rows of a file, with its mapping


def to_example(
    row_number: int, row: dict, mapping: ColumnMapping, system_prompt: str = ""
) -> Example:
    """Convert one row of a file. Raises RowError if nothing can be trained on."""
    if mapping.also:
        mapping = mapping.of_row(row)
    roles = mapping.roles
    if "label" in roles:
        _refuse_rejected(row.get(roles["label"]), roles["label"])
    if mapping.format == "text":
        text = cell_text(row.get(roles["text"]))
        if not text.strip():
            raise RowError("The text is empty.", FILL_IN, "empty_text")
        return Example(row_number, None, text)
    inside: list[ImageRef | None] = []
    notes: list[Note] = []
    prompt, completion, tools = read_row(
        row, roles, lambda part: inside.append(part_image(part)), say=notes.append
    )
    messages = prompt + completion
    try:
        refuse_untaught(messages)
    except RowError:
        if completion:
            _refuse_empty_pair(prompt[-1], completion[-1], roles["completion"] in row)
        raise
    messages = with_system(messages, system_prompt)
    images = cell_images(row.get(roles["images"])) if "images" in roles else []
    if inside or images:
        images = placed([message["content"] for message in messages], inside, images)
    said = tuple(dict.fromkeys(notes)) if notes else ()
    return Example(row_number, messages, None, tools, images or None, said)


def _refuse_rejected(mark: Any, column: str) -> None:
    good = mark_of(mark)
    if good is None:
        what = f"“{column[:60]}” does not say whether the answer is good."
        raise RowError(what, "Write true or false into it.", "rejected_answer")
    if not good:
        what = f"The answer is marked as bad in “{column[:60]}”."
        raise RowError(what, "Nothing needs to be done.", "rejected_answer")


def _refuse_empty_pair(prompt: dict, completion: dict, given: bool) -> None:
    if not completion["content"].strip() and "tool_calls" not in completion:
        what = "The answer is empty." if given else "The answer is missing."
        raise RowError(what, FILL_IN, "empty_answer")
    if prompt["role"] == "user" and not prompt["content"].strip():
        raise RowError("The prompt is empty.", FILL_IN, "empty_prompt")


# Both: the cells of a row as messages


def read_row(
    row: Mapping[str, Any],
    roles: dict[str, str],
    on_image: OnImage | None = None,
    text: ReadText = cell_text,
    say: Say = keep_quiet,
) -> tuple[list[dict], list[dict], list | None]:
    """A row as (prompt messages, completion messages, tools); a conversation is all prompt.

    `on_image` is given the image parts of messages, `text` reads cells that should be text, `say`
    is told what is left out or taken in one of two ways. Raises RowError. Whether there is anything
    to train on is not checked.
    """
    completion: list[dict] = []
    if "messages" in roles:
        cell = row.get(roles["messages"])
        cell = transcript_turns(cell) or cell if isinstance(cell, str) else cell
        prompt = to_messages(cell, on_image, text, say)
        if "completion" in roles:
            answer = _answer(row.get(roles["completion"]), text)
            completion = to_messages(answer, on_image, text, say)
    else:
        prompt, completion = _pair(row, roles, on_image, text, say)
    if "history" in roles and (before := history_turns(row.get(roles["history"]))):
        prompt = to_messages(before, on_image, text, say) + prompt
    if (
        "reasoning" in roles
        and (thought := joined_texts(row.get(roles["reasoning"]), text)).strip()
    ):
        _add_reasoning(prompt + completion, thought)
    if "system" in roles:
        own = system_text(row.get(roles["system"]), Ways(None, text, say))
        if own.strip() and prompt[0]["role"] == "system" and prompt[0]["content"] != own:
            say(_TWO_SYSTEMS)
        prompt = with_system(prompt, own if own.strip() else "")
    tools = read_tools(row.get(roles["tools"])) if "tools" in roles else None
    return prompt, completion, tools


def _pair(
    row: Mapping[str, Any],
    roles: dict[str, str],
    on_image: OnImage | None,
    text: ReadText,
    say: Say,
) -> tuple[list[dict], list[dict]]:
    prompt, completion = row.get(roles["prompt"]), row.get(roles["completion"])
    extra = joined_texts(row.get(roles["input"]), text) if "input" in roles else ""
    if isinstance(completion, list):
        completion = best_answer(completion, row.get(roles["score"]) if "score" in roles else None)
    asked, calls = turns_of(prompt), turns_of(completion) or bare_calls(completion)
    if asked or calls:
        asked = asked or [{"role": "user", "content": text(prompt)}]
        messages = to_messages(asked, on_image, text, say)
        messages[-1]["content"] = _joined(messages[-1]["content"], extra)
        return messages, to_messages(_answer(completion, text), on_image, text, say)
    answer = [{"role": "assistant", "content": text(completion)}]
    return [{"role": "user", "content": _joined(text(prompt), extra)}], answer


def _joined(content: str, extra: str) -> str:
    """A prompt and the text it is about; the product joins an instruction and its input so."""
    if not extra.strip():
        return content
    return f"{content}\n\n{extra}" if content.strip() else extra


def _answer(completion: Any, text: ReadText) -> list[dict]:
    """The turns of an answer: messages, one message, function calls, or a text."""
    if turns := turns_of(completion):
        return turns
    if calls := bare_calls(completion):
        return [{"role": "assistant", "content": "", "tool_calls": calls}]
    return [{"role": "assistant", "content": text(completion)}]


def _add_reasoning(messages: list[dict], thought: str) -> None:
    """Give the last answer its reasoning, unless it has some already or there is none."""
    if not thought.strip():
        return
    for message in reversed(messages):
        if message["role"] == "assistant":
            message.setdefault("reasoning_content", thought)
            return


def plain_messages(messages: list[dict]) -> list[dict]:
    """Messages with plain numbers in tool calls, because chat templates write them as JSON."""
    return [one if len(one) == 2 else plain_numbers(one) for one in messages]


# The library: rows of a dataset, with mappings from its columns


def refuse_image(part: dict) -> None:
    """Raises RowError: a message holds an image, and the dataset has no image column."""
    raise RowError(
        "A message holds an image, and the dataset has no column “images”.",
        "Add the images in a column of their own, or keep only the text of such rows.",
    )


@dataclass(frozen=True)
class Reading:
    """How the rows of a dataset are read: the first of the mappings that a row fills."""

    mappings: tuple[ColumnMapping, ...]
    text_field: str = "text"

    def example(
        self,
        row: Mapping[str, Any],
        chat: bool = True,
        on_image: OnImage | None = refuse_image,
    ) -> dict:
        """Convert one row to what encode() takes; `chat`: the tokenizer has a chat template.

        {"prompt", "completion"}, {"messages"}, {"text"} or {"input_ids", …}; `on_image` is given
        the image parts of messages. Raises TrainingDataError for a row that cannot be read.
        """
        if row.get("input_ids") is not None:
            return {name: row[name] for name in TOKEN_COLUMNS if row.get(name) is not None}
        columns = self._mapping_of(row)
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

    def _mapping_of(self, row: Mapping[str, Any]) -> ColumnMapping:
        """The first mapping whose columns the row fills; else the first without a null."""
        for empty in (EMPTY, (None,)):
            for columns in self.mappings:
                if columns.is_filled(row, empty) and (
                    columns.format != "text" or isinstance(row[columns.roles["text"]], str)
                ):
                    return columns
        raise TrainingDataError(
            f"No training text was found in the columns {', '.join(map(str, row)) or '(none)'}.",
            f"dataset columns (dataset_text_field={self.text_field!r})",
            f"Give one of: {ACCEPTED}; or pass formatting_func.",
        )


def find_reading(
    rows: Sequence[Mapping[str, Any]], columns: Iterable[str] = (), text_field: str = "text"
) -> Reading:
    """Find how to read a dataset, from its first rows and the names of all its columns."""
    plain = [{name: cell for name, cell in row.items() if _is_plain(cell)} for row in rows]
    columns = list(dict.fromkeys([*columns, *columns_of(plain)]))
    promised = _promised(columns, text_field)
    found = detect_format(plain)
    if found.code == PREFERENCE:
        raise _undecided(found.sentence.partition(" (columns ")[0], columns)
    if found.code == "segments":
        raise TrainingDataError(found.sentence, "dataset column “segments”", found.advice)
    if found.code == UNUSED:
        warnings.warn(found.sentence, stacklevel=2)
    certain = found.mapping if found.sure or found.code == UNUSED else None
    detected = [certain, *certain.also] if certain else []
    if text_field not in ("text", "prompt") and text_field in columns:
        promised.insert(0, ColumnMapping("text", {"text": text_field}))
    if promised and promised[0].format == "text" and text_field != "prompt":
        detected, promised = [promised[0], *detected], promised[1:]
    tools = {"tools": "tools"} if "tools" in columns else {}
    kinds: dict[tuple[str, ...], ColumnMapping] = {}
    for one in [*detected, *promised]:
        roles = {role: name for role, name in one.roles.items() if role != "images"}
        kinds.setdefault(tuple(one.needed()), ColumnMapping(one.format, tools | roles))
    return Reading(tuple(kinds.values()), text_field)


def _undecided(seen: str, columns: Sequence[str]) -> TrainingDataError:
    return TrainingDataError(
        f"{seen}.",
        f"dataset columns {listed(columns, 8)}",
        "Keep only the rows and columns with the good answers: filter on the label and remove it, "
        "or rename the chosen answers to “completion” and remove the rejected ones.",
    )


def as_example(row: Mapping[str, Any], text_field: str = "text", chat: bool = True) -> dict:
    """Reading.example() for one row on its own."""
    return find_reading([row], (), text_field).example(row, chat)


def _promised(columns: Sequence[str], text_field: str) -> list[ColumnMapping]:
    """The mappings of the column names that SFTTrainer always accepts."""
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


def _read(
    row: Mapping[str, Any], roles: dict[str, str], chat: bool, on_image: OnImage | None
) -> dict:
    if "messages" in roles:
        given = _parsed(row, roles["messages"])
        messages, answer, tools = read_row(given, roles, on_image, _only_text, _warn)
        example = {"messages": plain_messages(messages + answer)}
    else:
        if _continues(row, roles):
            return {"prompt": row["prompt"], "completion": row["completion"]}
        prompt, completion, tools = read_row(row, roles, on_image, _only_text, _warn)
        if not chat and _is_text(row[roles["prompt"]]) and _is_text(row[roles["completion"]]):
            return _as_text(prompt, completion[0])
        example = {"prompt": plain_messages(prompt), "completion": plain_messages(completion)}
    return {**example, "tools": plain_numbers(tools)} if tools else example


def _parsed(row: Mapping[str, Any], column: str) -> Mapping[str, Any]:
    """The row with a JSON text of messages parsed fast; other text is refused later."""
    if not isinstance(row[column], str):
        return row
    try:
        return {**row, column: json.loads(row[column])}
    except json.JSONDecodeError:
        return row


def _warn(note: Note) -> None:
    """Say once what the rows of a dataset have that is not all learned."""
    if note.severity == "warning":
        warnings.warn(f"{note.what} {note.fix}", stacklevel=2)


def _only_text(value: Any) -> str:
    """Text unchanged, an object as its JSON, null as "".

    Raises RowError for a number, which may have been 1.0 or 1.00.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return cell_text(value)
    if value is None:
        return ""
    raise RowError(f"A cell holds {value!r:.60}, not text.", "Write it as text.")


def _continues(row: Mapping[str, Any], roles: dict[str, str]) -> bool:
    """Whether the row is a text and its continuation, to which no chat template is applied."""
    if roles["prompt"] != "prompt" or roles["completion"] != "completion":
        return False
    if not roles.keys().isdisjoint(("system", "input", "history", "reasoning")):
        return False
    return _is_text(row["prompt"]) and _is_text(row["completion"])


def _is_text(cell: Any) -> bool:
    return isinstance(cell, str) and not turns_of(cell)


def _as_text(prompt: list[dict], completion: dict) -> dict[str, str]:
    text = "\n\n".join(message["content"] for message in prompt)
    thought = completion.get("reasoning_content")
    answer = f"{thought}\n\n{completion['content']}" if thought else completion["content"]
    joint = "" if text[-1:].isspace() or answer[:1].isspace() else "\n"
    return {"prompt": text + joint, "completion": answer}
