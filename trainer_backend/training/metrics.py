"""Token-weighted metrics between two log lines, summed over all processes.

No loss is computed here, and nothing is logged.
"""

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from trainer_backend.training.loss import TokenSums

_NAMES = ("loss", "correct", "entropy", "trained", "tokens", "aux", "batches")


class TokenMeter:
    """Adds up batches on the device; only read() waits for the device."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None
        self.num_tokens = 0  # in training, since the run began

    def add(self, sums: TokenSums, tokens: Tensor | int, aux: Tensor | None) -> None:
        """Add one batch: its token sums, its number of tokens without padding, its router loss."""
        parts = (*sums, tokens, 0.0 if aux is None else aux, 1.0)
        device = sums[0].device
        row = torch.stack([torch.as_tensor(part, device=device).detach().float() for part in parts])
        row = row if device.type == "mps" else row.double()
        self._sums = row if self._sums is None else self._sums + row

    def read(self, accelerator: Accelerator) -> dict[str, float]:
        """Return the sums over all processes and reset them; empty if nothing was added.

        Keys: loss, correct, entropy (nats), trained, tokens, aux, batches. A collective call.
        """
        if self._sums is None:
            return {}
        sums = accelerator.reduce(self._sums, reduction="sum").tolist()
        self._sums = None
        return dict(zip(_NAMES, sums, strict=True))


def averages(sums: dict[str, float], with_aux: bool) -> dict[str, float]:
    """Means per trained token as they are logged: entropy in nats, accuracy from 0 to 1."""
    count = max(sums["trained"], 1.0)
    shown = {"entropy": sums["entropy"] / count, "mean_token_accuracy": sums["correct"] / count}
    if with_aux:
        shown["aux_loss"] = sums["aux"] / sums["batches"]
    return shown


def num_tokens(inputs: Mapping[str, Any]) -> Tensor | int:
    """Number of tokens of a batch without padding; a tensor when it has an attention mask."""
    mask = inputs.get("attention_mask")
    return inputs["input_ids"].numel() if mask is None else mask.sum()
