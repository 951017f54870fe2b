"""Rows to meaning: one row under a mapping as an Example of messages or text.

The one reader of rows: files given to the app and datasets given to SFTTrainer mean the same here.
After this room nothing knows Alpaca or ShareGPT. No mapping is found, and no token is made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trainer_backend.data.formats.conversations import (
    OnPicture,
    refuse_untaught,
    to_messages,
    with_system,
)
from trainer_backend.data.formats.detection import turns_of
from trainer_backend.data.formats.mapping import Mapping
from trainer_backend.data.json_values import BadJSON, cell_text, parse, plain_numbers
from trainer_backend.data.pictures import Picture, part_picture, placed, to_pictures
from trainer_backend.errors import RowError


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
    images: list[Picture] | None = None

    def as_row(self, system_prompt: str = "") -> dict:
        """What encode() takes, without the images: {"messages", "tools"?} or {"text"}."""
        if self.messages is None:
            return {"text": self.text}
        row = {"messages": plain_messages(with_system(self.messages, system_prompt))}
        return {**row, "tools": plain_numbers(self.tools)} if self.tools else row


def to_example(row_number: int, row: dict, mapping: Mapping, system_prompt: str = "") -> Example:
    """One row as an Example; RowError says why it cannot be one."""
    if mapping.also:
        mapping = mapping.of_row(row)
    roles, inside = mapping.roles, []
    if mapping.format == "text":
        text = cell_text(row.get(roles["text"]))
        if not text.strip():
            raise RowError("The text is empty.", "Fill it in, or leave the row out.")
        return Example(row_number, None, text)
    asked, answer, tools = read_row(row, roles, lambda part: inside.append(part_picture(part)))
    messages = asked + answer
    try:
        refuse_untaught(messages)
    except RowError:
        if answer:
            _refuse_empty_pair(asked[-1], answer[-1], roles["completion"] in row)
        raise
    messages = with_system(messages, system_prompt)
    images = to_pictures(row.get(roles["images"])) if "images" in roles else []
    if inside or images:
        images = placed([message["content"] for message in messages], inside, images)
    return Example(row_number, messages, None, tools, images or None)


def read_row(
    row: dict,
    roles: dict[str, str],
    on_picture: OnPicture | None = None,
    text: Callable[[Any], str] = cell_text,
) -> tuple[list[dict], list[dict], list | None]:
    """A row of messages or of a pair as (asked, answer, tools); RowError if it cannot be read.

    The messages of a conversation are all asked. Whether they teach anything is not judged.
    `on_picture` is given the image parts of messages, `text` reads cells that should be text.
    """
    if "messages" in roles:
        asked, answer = to_messages(row.get(roles["messages"]), on_picture, text), []
    else:
        asked, answer = _pair(row, roles, on_picture, text)
    if "system" in roles:
        own = text(row.get(roles["system"]))
        asked = with_system(asked, own if own.strip() else "")
    return asked, answer, _tools(row.get(roles["tools"])) if "tools" in roles else None


def _pair(
    row: dict, roles: dict[str, str], on_picture: OnPicture | None, text: Callable[[Any], str]
) -> tuple[list[dict], list[dict]]:
    prompt, completion = row.get(roles["prompt"]), row.get(roles["completion"])
    asked, answer = turns_of(prompt), turns_of(completion)
    if asked or answer:
        asked = asked or [{"role": "user", "content": text(prompt)}]
        answer = answer or [{"role": "assistant", "content": text(completion)}]
        return to_messages(asked, on_picture, text), to_messages(answer, on_picture, text)
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
