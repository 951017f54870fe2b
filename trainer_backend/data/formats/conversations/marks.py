"""Marks that say whether a message is learned, as other programs write them.

`train: false` is the one form after this; what a mark means for tokens is not decided here.
"""

from collections.abc import Mapping
from typing import Any

from trainer_backend.data.formats.conversations.notes import Note, Say
from trainer_backend.data.json_values import NumberText
from trainer_backend.errors import RowError

TRAIN_MARKS = (
    "train", "training", "train_on_turn", "weight", "loss", "loss_weight", "loss_scale", "masked",
)  # fmt: skip
UNSURE_MARKS = ("mask", "loss_mask", "ignore", "learn_mask")
DETAILS = ("train_detail", "training_detail", "train_details", "training_details")
_YES, _NO = (1, "1", "true", "1.0"), (0, "0", "false", "0.0")  # True and False are 1 and 0
_IGNORED = Note(
    "learn_marks",
    "Messages that are no answers are marked to be learned; only answers are.",
    "Nothing to do, unless the model should write these messages too.",
)


def is_trained(turn: Mapping) -> bool:
    """Whether a message is learned: not with `train: false`, `loss: false`, `weight: 0`, ….

    A mark that is null or empty is none. Raises RowError for a mark with any other value, and for
    two marks that say the opposite.
    """
    if len(turn) == 2 and "role" in turn and "content" in turn:
        return True
    said = {key: _mark(key, turn[key]) for key in TRAIN_MARKS if turn.get(key) not in (None, "")}
    if len(set(said.values())) > 1:
        yes, no = (next(key for key in said if said[key] is one) for one in (True, False))
        what = f"A message has “{yes}” that says to learn it and “{no}” that says not to."
        raise RowError(what, "Keep one of the two.")
    return all(said.values())


def _mark(key: str, value: Any) -> bool:
    value = value.strip().lower() if isinstance(value, str) else value
    value = float(value.text) if isinstance(value, NumberText) else value
    if isinstance(value, list | dict) or value not in (*_YES, *_NO):
        raise RowError(
            f"A message has “{key}” other than true, false, 0 or 1.",
            f"Answers are learned whole or not at all: write “{key}” as 0 or 1.",
        )
    return (value in _YES) is not (key == "masked")


def learned(turn: Mapping, role: str, say: Say) -> bool:
    """is_trained() for a turn of a file: marks that are unclear or useless are refused or said.

    Raises RowError.
    """
    for key in UNSURE_MARKS:
        if turn.get(key) is not None:
            raise RowError(
                f"A message has “{key}”, which could mean that it is learned or that it is not.",
                "Write “train” instead: true for answers to learn, false for others.",
            )
    for key in DETAILS:
        if turn.get(key):
            raise RowError(
                f"A message has “{key}”, which marks parts of its text; only whole messages can "
                "be marked.",
                "Write “train”: true or false, or leave the key out.",
            )
    if role == "assistant":
        return is_trained(turn)
    try:
        trained = is_trained(turn)
    except RowError:  # a weight of 0.5, for example
        trained = True
    if trained and any(turn.get(key) not in (None, "") for key in TRAIN_MARKS):
        say(_IGNORED)
    return trained
