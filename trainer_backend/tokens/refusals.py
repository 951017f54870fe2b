"""Rows that cannot be trained as they are, collected before anything is said about them.

A row is refused (its text cannot be made), or its chat template omits a kind of content. What a
run does about it is decided elsewhere.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase as Tokenizer

from trainer_backend.data.checks import (
    BEYOND_TRAINED,
    Positions,
    is_set,
    loses,
    lost_kinds,
    question,
    rows_text,
)
from trainer_backend.errors import TrainingDataError
from trainer_backend.recipe import changed_to
from trainer_backend.tokens.encode import ExampleError, TokenArrays, encode_arrays
from trainer_backend.tokens.templates.training import training_template

FEW = 5  # refused rows of a batch after which its rows are tried one by one
REFUSALS = (TrainingDataError, TypeError, LookupError, AttributeError, ArithmeticError)
Encode = Callable[[Sequence[Mapping]], list[TokenArrays]]
SAMPLE = 20  # rows by which the training template is judged
LEAVE_OUT = {"lost_content": "leave_out"}


class RowsRefused(TrainingDataError):
    """Rows that cannot become tokens: `rows` are their indices by dataset ("train", "eval").

    `place` says which part of the rows it is about.
    """

    def __init__(
        self,
        rows: dict[str, list[int]],
        what: str,
        where: str,
        fix: str,
        place: str = "",
        *,
        can_leave_out: bool = True,
    ):
        offer = {"retry": LEAVE_OUT, "choices": [LEAVE_OUT]} if can_leave_out else None
        super().__init__(what, where, fix, code="rows_refused", offer=offer)
        self.rows, self.place = rows, place


class ContentLost(TrainingDataError):
    """A kind of content that the chat template omits, and about which nobody has decided.

    `content` are the flags of all rows by dataset, int64 [rows], `rows` the indices of those that
    lose one of `kinds`; `mended` are the kinds that the training template writes.
    """

    def __init__(
        self, kinds: list[str], content: Mapping[str, np.ndarray], mended: Sequence[str] = ()
    ):
        lost = {name: np.flatnonzero(loses(flags, kinds)) for name, flags in content.items()}
        rows = {name: found for name, found in lost.items() if len(found)}
        self.kinds, self.content, self.rows = kinds, content, rows
        where = ", ".join(
            f"{name} dataset, {rows_text((found + 1).tolist(), len(found))}"
            for name, found in rows.items()
        )
        flags = np.concatenate(list(content.values()))
        super().__init__(**question(flags, kinds, mended, where))


def refused_rows(rows: Mapping[int, TrainingDataError], name: str) -> RowsRefused:
    """The error for these rows (by index) of one dataset; it has the first one's words.

    Where nothing else is left to train on, the rows cannot be left out.
    """
    first = rows[min(rows)]
    numbers = [at + 1 for at in sorted(rows)]
    where = rows_text(numbers, len(numbers))
    kinds = len({error.what for error in rows.values()})
    place = f"{first.where} ({kinds} reasons; this is the first)" if kinds > 1 else first.where
    fix = f"{first.fix} Or set {changed_to(LEAVE_OUT)}."
    return RowsRefused({name: sorted(rows)}, first.what, f"{where}, {place}", fix, place)


def too_long(rows: list[int], longest: int, positions: Positions, name: str) -> RowsRefused:
    """The error for rows (by index) that are longer than the model's table of positions."""
    what, fix = positions.refusal()
    numbers, place = rows_text([at + 1 for at in rows], len(rows)), f"up to {longest:,} tokens"
    error = RowsRefused({name: rows}, what, f"{numbers}, {place}", fix, place)
    shorter = {"max_length": positions.most}
    error.code, error.offer = "no_positions", {"retry": shorter, "choices": [shorter]}
    return error


def beyond(
    lengths: np.ndarray, limit: int | None, positions: Positions | None, name: str
) -> np.ndarray:
    """The flag of rows that are longer than the model was trained with, int64 [rows].

    `lengths` are those before cutting at `limit`; packed rows begin at position 0 each. Raises
    RowsRefused for rows beyond the model's last position.
    """
    if positions is None:
        return np.zeros(len(lengths), np.int64)
    kept = np.minimum(lengths, limit) if limit else lengths
    longer = kept > positions.most
    if positions.fixed and longer.any():
        raise too_long(np.flatnonzero(longer).tolist(), int(kept.max()), positions, name)
    return np.where(longer, BEYOND_TRAINED, 0)


def joined(found: Sequence[RowsRefused]) -> RowsRefused:
    """One error for the refused rows of several datasets."""
    if len(found) == 1:
        return found[0]
    rows = {name: at for one in found for name, at in one.rows.items()}
    where = "; ".join(f"{name} dataset, {one.where}" for one in found for name in one.rows)
    error = RowsRefused(rows, found[0].what, where, found[0].fix, found[0].place)
    error.code, error.offer = found[0].code, found[0].offer
    return error


def mended_kinds(
    rows: Sequence[Mapping], kinds: Sequence[str], tokenizer: Tokenizer, **options: Any
) -> tuple[str, ...]:
    """Which of these lost kinds of content the training template writes, judged by some rows.

    `rows` lose them with the tokenizer's own template; `options` are those of encode_arrays().
    """
    template = training_template(tokenizer)
    if template is None or not rows:
        return ()
    other = copy.copy(tokenizer)
    other.chat_template = template
    options = {**options, "lost_content": "train_without"}
    encoded, _ = encode_each(rows, lambda some: encode_arrays(some, other, **options))
    flags = np.array([one.ledger for one in encoded if one is not None], np.int64)
    lost = lost_kinds(flags)
    return tuple(kind for kind in kinds if is_set(flags, kind).any() and kind not in lost)


def encode_each(
    rows: Sequence[Mapping], encode: Encode
) -> tuple[list[TokenArrays | None], dict[int, TrainingDataError]]:
    """Encode rows with `encode`, a batch at a time, around those it refuses.

    Returns the rows in order, None where one is refused, and by index why.
    """
    found: list[TokenArrays | None] = [None] * len(rows)
    refused: dict[int, TrainingDataError] = {}
    left = list(range(len(rows)))
    while left:
        batch = left if len(refused) < FEW else left[:1]
        try:
            encoded = encode([rows[at] for at in batch])
        except REFUSALS as error:
            if len(batch) > 1 and not isinstance(error, ExampleError):
                return _one_by_one(rows, encode)
            bad = batch[error.index] if isinstance(error, ExampleError) else batch[0]
            refused[bad] = _in_words(error)
            left.remove(bad)
            continue
        for at, one in zip(batch, encoded, strict=True):
            found[at] = one
        left = left[len(batch) :]
    return found, refused


def _in_words(error: Exception) -> TrainingDataError:
    if isinstance(error, TrainingDataError):
        return error
    what = f"The chat template refuses this conversation: {type(error).__name__}: {error}."
    fix = "Change the order or roles of its messages, or use a model with another template."
    return TrainingDataError(what, "this row's messages", fix)


def _one_by_one(
    rows: Sequence[Mapping], encode: Encode
) -> tuple[list[TokenArrays | None], dict[int, TrainingDataError]]:
    """Encode each row alone, for errors that do not name their row."""
    parts = [encode_each([row], encode) for row in rows]
    refused = {at: reasons[0] for at, (_, reasons) in enumerate(parts) if reasons}
    return [one for found, _ in parts for one in found], refused
