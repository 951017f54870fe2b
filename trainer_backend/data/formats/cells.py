"""Single cells that stand for turns: earlier turns, an answer of calls, a transcript, a label.

Which column holds such a cell is not known here, nor how a message is unified.
"""

import re
from collections.abc import Callable
from typing import Any

from trainer_backend.data.formats import conversations
from trainer_backend.data.formats.conversations import as_list, turns_in
from trainer_backend.data.json_values import NumberText, cell_text
from trainer_backend.errors import RowError

_YES = {"true", "1", "yes", "y", "good", "chosen", "desirable", "accepted", "like", "liked", "up",
        "thumbs_up", "positive", "correct", "t", "preferred"}  # fmt: skip
_NO = {"false", "0", "no", "n", "bad", "rejected", "undesirable", "dislike", "disliked", "down",
       "thumbs_down", "negative", "incorrect", "wrong", "f", "-1", "not_preferred"}  # fmt: skip
_ASKED_KEYS = ("user", "human", "question", "prompt", "instruction", "query", "input", "q")
_ANSWER_KEYS = ("assistant", "bot", "gpt", "answer", "response", "output", "completion", "a")
_SPEAKERS = {"human": "user", "user": "user", "assistant": "assistant", "system": "system",
             "function response": "tool"}  # fmt: skip
_MARK = re.compile(
    r"(?:\A|\n)\s*(Human|Assistant|User|USER|ASSISTANT|SYSTEM|FUNCTION RESPONSE):[ \t]?"
)
HISTORY_FIX = 'Write it as [["first question", "first answer"], ["second question", …]].'


def turns_of(value: Any) -> list:
    """The turns of a cell that holds a conversation, or one message; [] for any other cell.

    An object with a list of messages is one too, as in OpenAI's preference files; a message with
    its replies is none.
    """
    if isinstance(value, str) and "[" not in value and "{" not in value:
        return []  # most texts, and faster than to look closer
    if isinstance(value, dict) and ("replies" in value or "children" in value):
        return []
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"]
    return conversations.turns_of(value)


def transcript_turns(value: Any) -> list[dict]:
    """The turns of a text written “Human: … Assistant: …” line by line; [] for other cells."""
    if not isinstance(value, str) or not _MARK.match(value):
        return []
    parts = _MARK.split(value)[1:]  # speaker, text, speaker, text, …
    turns = [
        {"role": _SPEAKERS[speaker.lower()], "content": _spoken(text)}
        for speaker, text in zip(parts[::2], parts[1::2], strict=True)
    ]
    return turns if {"user", "assistant"} <= {turn["role"] for turn in turns} else []


def _spoken(text: str) -> str:
    return text.strip().removesuffix("<|endoftext|>").strip()


def joined_texts(value: Any, text: Callable[[Any], str]) -> str:
    """A cell as text; a list of texts as paragraphs."""
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return "\n\n".join(value)
    return text(value)


def named_turns_of(value: Any) -> list:
    """turns_of() for a column that is called a conversation: questions and answers are turns too.

    [{"input": "Hi", "output": "Hello"}] may be anything in other columns.
    """
    if turns := turns_of(value):
        return turns
    try:
        turns = turns_in(value)
    except RowError:
        return []
    return turns if all(isinstance(turn, dict) and "role" in turn for turn in turns) else []


def is_history(value: Any) -> bool:
    """Whether a cell holds earlier turns that history_turns() can read; not an empty one."""
    try:
        return bool(history_turns(value))
    except RowError:
        return False


def history_turns(value: Any) -> list[dict]:
    """Earlier turns as messages: [["Hi", "Hello"]] → a user's and an assistant's message.

    A list of pairs, of objects with a question and an answer, of messages, the text of such a
    list, or a transcript; [] for an empty cell. Raises RowError.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    if turns := turns_of(value) or transcript_turns(value):
        return turns
    try:
        pairs = as_list(value)
    except RowError:
        raise RowError("The history is not a list of earlier turns.", HISTORY_FIX) from None
    return [turn for pair in pairs for turn in _pair_turns(pair)]


def _pair_turns(pair: Any) -> list[dict]:
    if isinstance(pair, dict):
        asked = next((pair[key] for key in _ASKED_KEYS if key in pair), None)
        answer = next((pair[key] for key in _ANSWER_KEYS if key in pair), None)
        pair = [asked, answer]
    if not (isinstance(pair, list | tuple) and len(pair) == 2 and pair[0] is not None):
        raise RowError("The history is not a list of earlier turns.", HISTORY_FIX)
    if any(isinstance(text, list | dict) for text in pair):
        raise RowError("The history is not a list of earlier turns.", HISTORY_FIX)
    asked, answer = (cell_text(text) for text in pair)
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return turns if answer.strip() else turns[:1]


def bare_calls(value: Any) -> list[dict]:
    """The function calls of a cell that is a list of nothing else; [] for any other cell."""
    if isinstance(value, str) and not ("{" in value and value.lstrip().startswith("[")):
        return []
    try:
        calls = as_list(value)
    except RowError:
        return []
    return calls if all(map(_is_call, calls)) else []


def _is_call(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    function = value.get("function", value)
    named = isinstance(function, dict) and isinstance(function.get("name"), str)
    return named and bool({"arguments", "parameters"} & function.keys())


def mark_of(value: Any) -> bool | None:
    """Whether a label marks an answer as good (true, 1, "yes") or bad; None for anything else."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float | NumberText):
        return {"1": True, "1.0": True, "0": False, "0.0": False, "-1": False}.get(str(value))
    if not isinstance(value, str):
        return None
    word = re.sub(r"[\s-]+", "_", value.strip().casefold()) if value.strip() != "-1" else "-1"
    return True if word in _YES else False if word in _NO else None


def all_of(test: Callable[[Any], object], values: list[Any]) -> bool:
    """Whether there are values and each passes a test."""
    return bool(values) and all(test(value) for value in values)
