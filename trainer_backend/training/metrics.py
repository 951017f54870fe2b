"""Counts and sums over tokens between two log lines, over all devices.

When they are logged is sft_trainer.py.
"""

from collections.abc import Mapping

import torch

_NAMES = ("loss", "correct", "entropy", "count", "tokens", "aux", "batches")


class TokenMeter:
    """Add up batches on the device; read() is the only point that waits for it."""

    def __init__(self):
        self._sums: torch.Tensor | None = None
        self.num_tokens = 0  # in training, since the run began

    def add(self, sums, tokens: torch.Tensor | int, aux: torch.Tensor | None) -> None:
        """Add one batch: its token sums, its tokens that are not padding, its router loss."""
        parts = (*sums, tokens, 0.0 if aux is None else aux, 1.0)
        device = sums[0].device
        row = torch.stack([torch.as_tensor(part, device=device).detach().float() for part in parts])
        row = row if device.type == "mps" else row.double()
        self._sums = row if self._sums is None else self._sums + row

    def read(self, accelerator) -> dict[str, float]:
        """Return the sums over all processes and begin again; empty if nothing was added."""
        if self._sums is None:
            return {}
        sums = accelerator.reduce(self._sums, reduction="sum").tolist()
        self._sums = None
        return dict(zip(_NAMES, sums, strict=True))


def averages(sums: dict[str, float], with_aux: bool) -> dict[str, float]:
    """Turn sums into what is logged, weighted by token."""
    count = max(sums["count"], 1.0)
    shown = {"entropy": sums["entropy"] / count, "mean_token_accuracy": sums["correct"] / count}
    if with_aux:
        shown["aux_loss"] = sums["aux"] / sums["batches"]
    return shown


def num_tokens(inputs: Mapping) -> torch.Tensor | int:
    """Tokens of the batch that are not padding."""
    mask = inputs.get("attention_mask")
    return inputs["input_ids"].numel() if mask is None else mask.sum()
