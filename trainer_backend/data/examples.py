"""Shapes of a training row: each becomes messages, prompt and completion, text or token ids.

What a file of the app means is formats.py; tokens are chat_template.py.
"""

import json
from collections.abc import Mapping

from trainer_backend.data.json_values import parse_json_column
from trainer_backend.errors import TrainingDataError

_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
_CARRIED = ("tools", "chat_template_kwargs")  # per-row extras that the template may use
ACCEPTED = (
    "prompt and completion, prompt and response, messages, conversations, "
    "instruction/input/output, text, or input_ids"
)


def _answer_column(row: Mapping) -> str | None:
    return next((name for name in ("completion", "response") if row.get(name) is not None), None)


def row_kind(row: Mapping, text_field: str = "text") -> str:
    """Name the shape of a row: ids, pair, messages, text or alpaca."""
    asked = text_field not in ("text", "prompt") and isinstance(row.get(text_field), str)
    checks = (
        ("ids", row.get("input_ids") is not None),
        ("text", asked),
        ("pair", row.get("prompt") is not None and _answer_column(row) is not None),
        ("messages", row.get("messages") is not None or row.get("conversations") is not None),
        ("text", isinstance(row.get(text_field), str)),
        ("alpaca", row.get("instruction") is not None and row.get("output") is not None),
    )
    for kind, holds in checks:
        if holds:
            return kind
    raise TrainingDataError(
        f"No training text was found in the columns {', '.join(map(str, row)) or '(none)'}.",
        f"dataset columns (dataset_text_field={text_field!r})",
        f"Give one of: {ACCEPTED}; or pass formatting_func.",
    )


def as_example(row: Mapping, text_field: str = "text", chat: bool = True) -> dict:
    """Turn a dataset row into what encode() takes; `chat`: the tokenizer has a chat template."""
    kind = row_kind(row, text_field)
    example = {name: row[name] for name in _CARRIED if row.get(name)}
    if kind == "ids":
        names = ("input_ids", "labels", "completion_mask", "assistant_masks")
        return {name: row[name] for name in names if row.get(name) is not None}
    if kind == "text":
        return {**example, "text": row[text_field]}
    if kind == "messages":
        column = "messages" if row.get("messages") is not None else "conversations"
        return {**example, "messages": to_messages(row[column])}
    return {**example, **_as_pair(row, kind, chat)}


def _as_pair(row: Mapping, kind: str, chat: bool) -> dict:
    """Prompt and completion; instructions and responses use the chat template if there is one."""
    if kind == "alpaca":
        given = str(row.get("input") or "").strip()
        prompt = _text(row["instruction"], "instruction") + (f"\n\n{given}" if given else "")
        answer = _text(row["output"], "output")
    else:
        column = _answer_column(row)
        prompt, answer = _turns_of(row["prompt"]), _turns_of(row[column])
        if not isinstance(prompt, str):
            return {"prompt": to_messages(prompt), "completion": _completion_messages(answer)}
        answer = _text(answer, column)
        if column == "completion":
            return {"prompt": prompt, "completion": answer}
    if chat:
        return {
            "prompt": [{"role": "user", "content": prompt}],
            "completion": [{"role": "assistant", "content": answer}],
        }
    seam = "" if prompt[-1:].isspace() or answer[:1].isspace() else "\n"
    return {"prompt": prompt + seam, "completion": answer}


def _text(cell, column: str) -> str:
    if isinstance(cell, str):
        return cell
    raise TrainingDataError(
        f"“{column}” holds {cell!r:.60}, not text.", f"column “{column}”", "Write it as text."
    )


def _turns_of(cell):
    """The messages in a cell that is their JSON text (see containers.py); any other as it is."""
    if not (isinstance(cell, str) and cell.startswith("[{")):
        return cell
    try:
        turns = json.loads(cell)
    except json.JSONDecodeError:
        return cell
    return turns if all(isinstance(turn, dict) and "role" in turn for turn in turns) else cell


def _completion_messages(answer) -> list[dict]:
    return (
        [{"role": "assistant", "content": answer}]
        if isinstance(answer, str)
        else to_messages(answer)
    )


def to_messages(messages) -> list[dict]:
    """Parse JSON text and read ShareGPT's from/value as role/content."""
    parsed = parse_json_column(messages, "messages") or []
    if not isinstance(parsed, list):
        raise TrainingDataError(
            f"Messages must be a list, not {type(parsed).__name__}.",
            "column “messages”",
            "Give a list of messages.",
        )
    return [_to_message(message) for message in parsed]


def _to_message(message) -> dict:
    if not isinstance(message, Mapping):
        raise _no_message(message, f"A message is {message!r:.60}, not an object.")
    if "from" in message and "role" not in message:
        rest = {key: value for key, value in message.items() if key not in ("from", "value")}
        message = {"role": message["from"], "content": message.get("value"), **rest}
    if not isinstance(message.get("role"), str):
        raise _no_message(message, "A message has no role.")
    if not isinstance(message.get("content"), str | list | tuple | None):
        raise _no_message(message, "The content of a message is neither text nor a list of parts.")
    return {**message, "role": _ROLES.get(message["role"], message["role"])}


def _no_message(message, what: str) -> TrainingDataError:
    return TrainingDataError(what, f"message {message!r:.80}", "Give role and content.")
