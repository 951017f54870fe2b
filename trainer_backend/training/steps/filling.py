"""Joined rows filled to few lengths, so that a device meets the same shapes again.

The filler is made of documents without labels: attention keeps them apart and no loss reads them.
How rows are joined, and how their tokens are counted, is not decided here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainer_backend.tokens.packing import filled_length
from trainer_backend.tokens.tokenise import IGNORED
from trainer_backend.training.kernels.attention import Layout
from trainer_backend.training.sft_config import SFTConfig

FILLED = (
    "Joined rows are filled to one of few lengths with up to 6 % of tokens that are not learned "
    "from, so that the device meets the same shapes again; the loss stays the same."
)


class Row(NamedTuple):
    """A joined row: what the model is given, labels [1, tokens], lengths of its documents."""

    inputs: dict[str, Any]
    labels: Tensor
    lengths: Sequence[int] | Layout | None


def fills_rows(args: SFTConfig, device: str, routed: bool, own_loss: bool) -> bool:
    """Whether joined rows are filled: as `fill_rows` says, by itself on a `device` "cuda" only.

    Never where something would see the filler: the balance of a router (`routed`), a script's own
    loss (`own_loss`), noise that is drawn for every token, rows shared between devices.
    """
    wanted = device == "cuda" if args.fill_rows is None else args.fill_rows
    shared = getattr(args, "parallelism_config", None) is not None
    return wanted and not (routed or own_loss or args.neftune_noise_alpha or shared)


def filling_of(trainer: Any) -> "Filling | None":
    """How a trainer's rows are filled, which is told once; None if they are not."""
    args, own_loss = trainer.args, trainer.compute_loss_func is not None
    fused = trainer._traits.packs and trainer._traits.spec is not None
    if not fused or not fills_rows(args, args.device.type, trainer.aux_loss_enabled, own_loss):
        return None
    trainer.paths.say(FILLED)
    return Filling(trainer._tokenizer.pad_token_id or 0)


@dataclass(frozen=True)
class Filling:
    """Fills the joined rows of a model with `pad_token_id`."""

    pad_token_id: int

    def fill(self, row: Row) -> Row:
        """The row, filled up; any other than token ids, labels and positions comes back as it is.

        Filler documents are no longer than the longest of the row: no position is new. They follow
        the row, so that places in it stay.
        """
        lengths, missing = row.lengths, _missing(row)
        if not missing:
            return row
        assert isinstance(lengths, Sequence)  # else nothing is missing
        filler = _filler(lengths, missing)
        ids, places = row.inputs["input_ids"], row.inputs["position_ids"]
        starts = [torch.arange(n, dtype=places.dtype, device=places.device) for n in filler]
        inputs = {
            **row.inputs,
            "input_ids": torch.cat((ids, ids.new_full((1, missing), self.pad_token_id)), dim=1),
            "position_ids": torch.cat((places[0], *starts))[None],
        }
        ignored = row.labels.new_full((1, missing), IGNORED)
        return Row(inputs, torch.cat((row.labels, ignored), dim=1), [*lengths, *filler])

    def lengths(self, row: Row) -> list[int]:
        """Those of the documents once the row is filled; [] for a row that is not."""
        known = row.lengths
        if not isinstance(known, Sequence) or not _is_plain(row.inputs, row.labels, sum(known)):
            return []
        return [*known, *_filler(known, filled_length(sum(known)) - sum(known))]


def _filler(lengths: Sequence[int], missing: int) -> list[int]:
    whole, rest = divmod(missing, max(lengths))
    return [max(lengths)] * whole + [rest] * (rest > 0)


def _missing(row: Row) -> int:
    """Tokens up to the next of the fixed lengths; 0 for a row that is not filled."""
    tokens = sum(row.lengths) if isinstance(row.lengths, Sequence) else 0
    if not tokens or not _is_plain(row.inputs, row.labels, tokens):
        return 0
    return filled_length(tokens) - tokens


def _is_plain(inputs: Mapping[str, Any], labels: Tensor, tokens: int) -> bool:
    given = {name: one for name, one in inputs.items() if isinstance(one, Tensor)}
    shapes = {one.shape for one in (*given.values(), labels)}
    return given.keys() == {"input_ids", "position_ids"} and shapes == {(1, tokens)}
