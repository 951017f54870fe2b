"""Rows that bring token ids of their own: checked, and masked as their columns say.

Whether the model knows the ids is looked at in prepare.py; text becomes tokens in tokens.py.
"""

from collections.abc import Mapping

import numpy as np

from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.tokenise import IGNORED, Plan


def plan_ids(example: Mapping, completion_only: bool) -> Plan:
    """Check ids and labels; without labels all ids are learned that no mask takes away.

    Raises TrainingDataError for what is no list of token ids, or lists of different lengths.
    """
    given = example.get("labels") is not None
    ids = _int_array(example, "input_ids")
    labels = _int_array(example, "labels") if given else ids.copy()
    if not given:
        masks = []
        if completion_only and example.get("completion_mask") is not None:
            masks.append(example["completion_mask"])
        if example.get("assistant_masks") is not None:
            masks.append(example["assistant_masks"])
        for mask in masks:
            _check_length(ids, mask, "the mask")
            labels[~np.asarray(mask, dtype=bool)] = IGNORED
    _check_length(ids, labels, "labels")
    return Plan(ids=ids, labels=labels)


def _check_length(ids, other, name: str) -> None:
    if len(other) != len(ids):
        raise TrainingDataError(
            f"input_ids has {len(ids)} tokens and {name} has {len(other)}.",
            "columns input_ids, labels",
            "Make them equal.",
        )


def _int_array(example: Mapping, column: str) -> np.ndarray:
    try:
        found = np.array(example[column])
    except ValueError:  # lists of different lengths
        found = np.zeros((0, 0))
    ids = found.astype(np.int32) if found.ndim == 1 and found.dtype.kind in "iu" else None
    if ids is None and found.shape == (0,):
        return np.zeros(0, np.int32)
    if ids is None or not np.array_equal(ids, found):
        raise TrainingDataError(
            f"“{column}” is not a list of token ids.",
            f"column “{column}”",
            "Give whole numbers, or text for the tokenizer.",
        )
    return ids
