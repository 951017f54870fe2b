"""Token-weighted metrics between two log lines, summed over all processes.

No loss is computed here, and nothing is logged.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from trainer_backend.training.loss import TokenSums

_NAMES = ("loss", "correct", "entropy", "trained", "tokens", "aux", "batches")


class TokenMeter:
    """Adds up batches on the device; only read() waits for the device."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None  # float64 [6]: the names up to "aux"
        self._counted = (0, 0)  # tokens and batches known without asking the device
        self.num_tokens = 0  # in training, since the run began

    def add(self, sums: TokenSums, tokens: Tensor | int, aux: Tensor | None) -> None:
        """Add one batch: its token sums, its number of tokens without padding, its router loss.

        Waits for nothing: numbers of this side stay here, and those of the device there.
        """
        known = 0 if isinstance(tokens, Tensor) else tokens
        none = sums.loss.new_zeros(())
        parts = (
            *sums,
            tokens if isinstance(tokens, Tensor) else none,
            none if aux is None else aux,
        )
        row = torch.stack([part.detach().to(none.device).float() for part in parts])
        row = row if row.device.type == "mps" else row.double()
        self._sums = row if self._sums is None else self._sums + row
        self._counted = self._counted[0] + known, self._counted[1] + 1

    def read(self, accelerator: Accelerator) -> dict[str, float]:
        """Return the sums over all processes and reset them; empty if nothing was added.

        Keys: loss, correct, entropy (nats), trained, tokens, aux, batches. A collective call.
        """
        if self._sums is None:
            return {}
        counted = torch.tensor(self._counted, dtype=self._sums.dtype, device=self._sums.device)
        whole = torch.cat((self._sums, counted))
        *sums, known, batches = accelerator.reduce(whole, reduction="sum").tolist()
        self._sums, self._counted = None, (0, 0)
        read = dict(zip(_NAMES, (*sums, batches), strict=True))
        read["tokens"] += known
        return read

    def count(self, sums: Mapping[str, float], history: Sequence[Mapping[str, Any]]) -> None:
        """Add the tokens of read() to `num_tokens`; `history` holds those of a resumed run."""
        if self.num_tokens == 0:
            seen = [row["num_tokens"] for row in history if "num_tokens" in row]
            self.num_tokens = int(seen[-1]) if seen else 0
        self.num_tokens += int(sums["tokens"])


def averages(sums: dict[str, float], with_aux: bool) -> dict[str, float]:
    """Means per trained token as they are logged: entropy in nats, accuracy from 0 to 1."""
    count = max(sums["trained"], 1.0)
    shown = {"entropy": sums["entropy"] / count, "mean_token_accuracy": sums["correct"] / count}
    if with_aux:
        shown["aux_loss"] = sums["aux"] / sums["batches"]
    return shown


def mean_loss(sums: Mapping[str, float], shown: Mapping[str, float], balance: float) -> float:
    """Loss per trained token in nats, and the router loss of `shown` weighted by `balance`."""
    return sums["loss"] / sums["trained"] + balance * shown.get("aux_loss", 0.0)


def num_tokens(inputs: Mapping[str, Any]) -> Tensor | int:
    """Number of tokens of a batch without padding; a tensor when it has an attention mask."""
    mask = inputs.get("attention_mask")
    return inputs["input_ids"].numel() if mask is None else mask.sum()
