"""A wrong answer, and the row that teaches the right one.

A row holds all that the model was asked with, so that training encodes the question exactly as it
was asked; only the corrected answer is learned. Where rows are kept is not known here.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer_backend.data.formats import ColumnMapping, to_example, with_system
from trainer_backend.data.formats.example import Example
from trainer_backend.data.images import IMAGE_MARK, ImageRef, to_image
from trainer_backend.data.json_values import BadJSON, check_strings
from trainer_backend.errors import RowError, UserError
from trainer_backend.models.loaded.answer_parts import Answer, calls_of, same_answer

MAPPING = ColumnMapping("messages", {"messages": "messages", "tools": "tools", "images": "images"})
WHERE = "Correct this answer"
PLACES = ("chat", "evaluation", "blind test")
# facts of a row that are not trained on
RUN, CHECKPOINT, PLACE, ROW, GIVEN = "run", "checkpoint", "corrected_in", "row_asked", "model_said"


@dataclass(frozen=True)
class Wrong:
    """An answer to be corrected, and all that it was asked with.

    `messages` are those before the answer, the system text among them; a message may have `images`,
    a list of files. `place` is one of PLACES, `row` the number of the row in its file or None.
    """

    run: str
    messages: Sequence[Mapping[str, Any]]
    answer: Answer
    tools: Sequence[Any] = ()
    checkpoint: int | None = None
    place: str = "chat"
    row: int | None = None


@dataclass(frozen=True)
class Correction:
    """A kept correction: the number of its row, its question, the right answer and the wrong one.

    `messages` are those before the answer.
    """

    number: int
    messages: list[dict[str, Any]]
    answer: Answer
    said: str  # what the model had answered
    tools: list[Any] = field(default_factory=list)
    run: str = ""
    checkpoint: int | None = None
    place: str = "chat"
    row: int | None = None

    @property
    def question(self) -> str:
        """The last message before the answer, as text."""
        return text_of(self.messages[-1]).replace(IMAGE_MARK, "").strip()

    @property
    def key(self) -> str:
        """question_key() of what was asked."""
        return question_key(self.messages, self.tools)


def question_key(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None) -> str:
    """What tells questions apart: roles, texts and calls of the messages, and the tools.

    Reasoning, ids of calls and marks of training do not count.
    """
    said = [
        [one["role"], text_of(one).replace(IMAGE_MARK, "").strip(), calls_of(one)]
        for one in messages
    ]
    text = json.dumps([said, list(tools or ())], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def keys_of(example: Example, system_prompt: str = "") -> list[str]:
    """question_key() of every answer in an example."""
    messages = with_system(example.messages, system_prompt) if example.messages else []
    places = [at for at, one in enumerate(messages) if at and one["role"] == "assistant"]
    return [question_key(messages[:at], example.tools) for at in places]


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message, without its pictures."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content)
    return content if isinstance(content, str) else ""


def read_calls(text: str) -> list[dict[str, Any]]:
    """Calls from JSON, [{"name", "arguments"}]; none from an empty text. Raises UserError."""
    fix = 'Write [{"name": "…", "arguments": {…}}], or leave the field empty.'
    try:
        found = json.loads(text) if text.strip() else []
    except (ValueError, RecursionError) as error:
        raise UserError(f"The calls are not JSON: {error}.", WHERE, fix) from None
    calls = [found] if isinstance(found, dict) else found
    known = isinstance(calls, list) and all(map(_is_call, calls))
    if not known:
        raise UserError("The calls are not a list of names with arguments.", WHERE, fix)
    return [{"name": one["name"], "arguments": one["arguments"]} for one in calls]


def _is_call(one: Any) -> bool:
    named = isinstance(one, dict) and isinstance(one.get("name"), str) and one["name"].strip()
    return bool(named) and isinstance(one.get("arguments"), dict)


def check_changed(wrong: Wrong, right: Answer) -> None:
    """Raise UserError for an empty answer, and for one that the model has given already."""
    if not right.content.strip() and not right.calls:
        raise UserError("The right answer is empty.", WHERE, "Write what the model should answer.")
    given = wrong.answer
    if (
        same_answer(Answer("", "", right.calls), Answer("", "", given.calls))
        and right.content.strip() == given.content.strip()
        and right.reasoning.strip() == given.reasoning.strip()
    ):
        what = "This is the model's own answer, so there is nothing to learn from it."
        raise UserError(what, WHERE, "Change the answer first, or cancel.")


def as_row(number: int, wrong: Wrong, right: Answer) -> dict[str, Any]:
    """The row to be stored. Raises UserError for a conversation that cannot be trained on."""
    plain, images = _with_marks(wrong.messages)
    row: dict[str, Any] = {
        "messages": [*map(_context, plain), _spoken(right)],
        "tools": list(wrong.tools) or None,
        "images": images or None,
        RUN: wrong.run,
        CHECKPOINT: wrong.checkpoint,
        PLACE: wrong.place,
        ROW: wrong.row,
        GIVEN: wrong.answer.in_words(),
    }
    try:
        check_strings({name: cell for name, cell in row.items() if name != "images"})
        made = to_example(number, row, MAPPING)
    except (RowError, BadJSON) as error:
        raise UserError(error.what, WHERE, error.fix) from None
    asked = made.messages or []
    if not any(one["role"] == "user" and one["content"].strip() for one in asked):
        raise UserError("The conversation has no question.", WHERE, "Ask the model first.")
    return row


def _with_marks(messages: Sequence[Mapping[str, Any]]) -> tuple[list[dict], list[ImageRef]]:
    """Messages with a mark for each of their pictures, and the pictures of all, in order."""
    plain: list[dict] = []
    found: list[ImageRef] = []
    for message in messages:
        own = list(message.get("images") or ())
        rest = {key: value for key, value in message.items() if key != "images"}
        if own and IMAGE_MARK not in text_of(rest):
            rest["content"] = IMAGE_MARK * len(own) + text_of(rest)
        plain.append(rest)
        found += map(_picture, own)
    return plain, found


def _picture(file: str) -> ImageRef:
    try:
        image = to_image(Path(file).read_bytes())
    except OSError:
        image = None
    if image is None:
        what = "The picture of this conversation is gone or cannot be read."
        raise UserError(what, WHERE, "Ask again with the picture, then correct the answer.")
    return image


def _context(message: dict[str, Any]) -> dict[str, Any]:
    """A message before the answer: earlier answers are read, but not learned."""
    return {**message, "train": False} if message["role"] == "assistant" else message


def _spoken(right: Answer) -> dict[str, Any]:
    tidy = Answer(right.content.strip(), right.reasoning.strip(), right.calls)
    return tidy.as_message()


def correction_of(number: int, row: Mapping[str, Any], example: Example) -> Correction:
    """A kept row, read again."""
    messages = example.messages or []
    *asked, last = messages
    return Correction(
        number,
        asked,
        Answer(text_of(last), str(last.get("reasoning_content") or ""), calls_of(last)),
        str(row.get(GIVEN) or ""),
        example.tools or [],
        str(row.get(RUN) or ""),
        row.get(CHECKPOINT),
        str(row.get(PLACE) or "chat"),
        row.get(ROW),
    )
