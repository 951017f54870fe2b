"""Rows to meaning: one row under a mapping as an Example of messages or text.

After this room nothing knows Alpaca or ShareGPT. Finding the mapping is detection.py; messages are
read in conversations.py.
"""

from dataclasses import dataclass
from typing import Any

from trainer_backend.data.conversations import to_messages, with_system
from trainer_backend.data.detection import Detection, detect_format, turns_of
from trainer_backend.data.json_values import BadJSON, cell_text, parse
from trainer_backend.data.mapping import (
    FORMATS,
    ROLE_NAMES,
    Mapping,
    check_mapping,
    describe_mapping,
)
from trainer_backend.data.pictures import Picture, placed, to_pictures
from trainer_backend.errors import RowError

__all__ = [
    "FORMATS",
    "ROLE_NAMES",
    "Detection",
    "Example",
    "Mapping",
    "check_mapping",
    "describe_mapping",
    "detect_format",
    "to_example",
]


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
    if "messages" in roles:
        messages = to_messages(row.get(roles["messages"]), inside)
    else:
        messages = _pair_messages(row, roles, inside)
    own = cell_text(row.get(roles["system"])) if "system" in roles else ""
    messages = with_system(messages, own if own.strip() else system_prompt)
    tools = _tools(row.get(roles["tools"])) if "tools" in roles else None
    images = to_pictures(row.get(roles["images"])) if "images" in roles else []
    if inside or images:
        images = placed([message["content"] for message in messages], inside, images)
    return Example(row_number, messages, None, tools, images or None)


def _pair_messages(row: dict, roles: dict[str, str], inside: list[Picture | None]) -> list[dict]:
    prompt, completion = row.get(roles["prompt"]), row.get(roles["completion"])
    if turns_of(prompt) or turns_of(completion):
        sides = (_side(prompt, "user"), _side(completion, "assistant"))
        return to_messages([turn for side in sides for turn in side], inside)
    asked, answer = cell_text(prompt), cell_text(completion)
    extra = cell_text(row.get(roles["input"])) if "input" in roles else ""
    if extra.strip():
        asked = f"{asked}\n\n{extra}" if asked.strip() else extra
    if not answer.strip():
        missing = roles["completion"] not in row
        what = "The answer is missing." if missing else "The answer is empty."
        raise RowError(what, "Fill it in, or leave the row out.")
    if not asked.strip():
        raise RowError("The prompt is empty.", "Fill it in, or leave the row out.")
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def _side(value: Any, role: str) -> list[dict]:
    return turns_of(value) or [{"role": role, "content": cell_text(value)}]


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
