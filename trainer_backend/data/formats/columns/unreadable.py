"""Rows that hold training data in a form no choice of columns makes examples of, and what to do.

Tokens, marked segments, choices to pick from, single messages, language pairs: each is named with
what was seen.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer_backend.data.formats.cells import all_of
from trainer_backend.data.formats.mapping import EMPTY, listed, plain_name, quoted

TOKENS = ("input_ids", "labels", "attention_mask", "token_type_ids", "position_ids", "seq_lengths",
          "completion_mask", "assistant_masks", "length", "special_tokens_mask")  # fmt: skip
_OPTIONS = re.compile(r"(?:op|opt|option|choice|answer|candidate)?_?[a-e1-5]|ending_?\d")
CHOICES = ("choices", "options", "endings", "candidates", "multiple_choice_targets")
ASKED = "columns_unclear"
SPEAKER = ("role", "from", "speaker", "author", "sender")
CONTENT = ("text", "content", "value", "message", "body", "utterance")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:[_-][A-Za-z]{2,4}){0,2}")


@dataclass(frozen=True)
class Unreadable:
    """What was seen, what to do about it, and the code of the finding."""

    code: str
    sentence: str
    advice: str


def find_unreadable(rows: Sequence[Mapping], columns: Sequence[str]) -> Unreadable | None:
    """The first of the known forms that the rows have."""
    for test in (_tokens, _segments):
        if found := test(rows, columns):
            return found
    return None


def find_questionable(rows: Sequence[Mapping], columns: Sequence[str]) -> Unreadable | None:
    """Why a choice of columns that looks certain may miss the point of the rows; None if not."""
    for test in (_choices, _single_messages, _languages):
        if found := test(rows, columns):
            return found
    return None


def _tokens(rows: Sequence[Mapping], columns: Sequence[str]) -> Unreadable | None:
    if "input_ids" not in columns:
        return None
    ids = [row["input_ids"] for row in rows if row.get("input_ids") not in EMPTY]
    if not all_of(_is_ids, ids):
        return None
    named = [name for name in columns if name in TOKENS]
    return Unreadable(
        "token_rows",
        f"The rows are tokens already ({listed(named, 6)}), made with one model’s tokenizer.",
        "Load the text they were made from. Or train on the tokens with the library: "
        "SFTTrainer(model, args, train_dataset=rows) takes input_ids and labels as they are.",
    )


def _is_ids(cell: Any) -> bool:
    if isinstance(cell, str):
        return bool(re.fullmatch(r"\s*\[[\d\s,]+\]\s*", cell))
    return isinstance(cell, list) and all(isinstance(one, int) for one in cell[:100])


def _segments(rows: Sequence[Mapping], columns: Sequence[str]) -> Unreadable | None:
    name = next((one for one in columns if plain_name(one) == "segments"), None)
    cells = [row[name] for row in rows if row.get(name) not in EMPTY] if name else []
    if not all_of(_is_segments, cells):
        return None
    split = sum(_asked_then_learned(cell) for cell in cells)
    return Unreadable(
        "segments",
        f"{quoted(name or '')} cuts each text into parts with a label, true for the parts to learn "
        f"(axolotl’s format without a template); in {split:,} of the first {len(cells):,} rows "
        "all parts to learn come last.",
        "Such marks inside a text cannot be kept. Write each row as two columns: prompt (the parts "
        "labelled false) and completion (the parts labelled true after them); or as messages, "
        'with "train": false at those that are not to be learned.',
    )


def _is_segments(cell: Any) -> bool:
    return isinstance(cell, list) and all(
        isinstance(part, dict) and isinstance(part.get("text"), str) and "label" in part
        for part in cell
    )


def _asked_then_learned(cell: list[dict]) -> bool:
    labels = [bool(part["label"]) for part in cell]
    return labels == sorted(labels) and any(labels) and not all(labels)


def _choices(rows: Sequence[Mapping], columns: Sequence[str]) -> Unreadable | None:
    names = [one for one in columns if plain_name(one) in CHOICES and _holds(rows, one, list)]
    names += [one for one in columns if plain_name(one) in CHOICES and _holds(rows, one, dict)]
    if not names:
        names = [one for one in columns if _OPTIONS.fullmatch(plain_name(one))]
        names = names if len(names) > 2 else []
    if not names:
        return None
    return Unreadable(
        ASKED,
        f"The rows ask to pick one of several choices, {listed(names, 6)}, and no column holds the "
        "whole question or the whole answer",
        "Write each question with its choices into one column and the right answer into another.",
    )


def _holds(rows: Sequence[Mapping], name: str, kind: type) -> bool:
    cells = [row[name] for row in rows if row.get(name) not in EMPTY]
    return all_of(lambda cell: isinstance(cell, kind), cells)


def _single_messages(rows: Sequence[Mapping], columns: Sequence[str]) -> Unreadable | None:
    speaker = next((one for one in columns if plain_name(one) in SPEAKER), None)
    content = next((one for one in columns if plain_name(one) in CONTENT), None)
    if speaker is None or content is None or not _holds(rows, content, str):
        return None
    names = sorted({str(row.get(speaker)).strip() for row in rows})
    if not 1 < len(names) <= max(4, len(rows) // 2):
        return None
    return Unreadable(
        ASKED,
        f"Each row is one message ({quoted(content)}) of a speaker ({listed(names, 4)} in "
        f"{quoted(speaker)}), and it is not certain which rows are one conversation, or which "
        "speaker is the assistant",
        "Name the speakers user and assistant, and add a column conversation_id that is the same "
        "in all messages of a conversation: they are chained then.",
    )


def _languages(rows: Sequence[Mapping], columns: Sequence[str]) -> Unreadable | None:
    for name in columns:
        cells = [row[name] for row in rows if row.get(name) not in EMPTY]
        if all_of(_is_pair_of_languages, cells):
            return _translation(name, list(cells[0]))
    parts = [one.rpartition(".") for one in columns if "." in one]
    names = [name for name, _, key in parts if name and _LANGUAGE.fullmatch(key)]
    if len(names) > 1 and len(set(names)) == 1 and len(names) == len(parts):
        return _translation(names[0], [key for _, _, key in parts])
    return None


def _translation(name: str, languages: list[str]) -> Unreadable:
    return Unreadable(
        ASKED,
        f"{quoted(name)} holds one text in several languages ({listed(languages, 4)}), and it is "
        "not certain which is translated into which",
        "Say which language is the prompt and which the answer; a column input may hold the "
        "instruction.",
    )


def _is_pair_of_languages(cell: Any) -> bool:
    return (
        isinstance(cell, dict)
        and len(cell) > 1
        and all(_LANGUAGE.fullmatch(key) and isinstance(text, str) for key, text in cell.items())
    )
