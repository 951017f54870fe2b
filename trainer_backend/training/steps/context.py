"""Context parallel: the processes share every row instead of taking rows of their own.

In each round every process still draws its batch; then the batches are trained one after the other
by all processes together, each with a part of the row's tokens. So the rows of a step, the schedule
and the sums of the gradients are those of data parallel training, at a fraction of the memory.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from trainer_backend.tokens.tokenise import IGNORED
from trainer_backend.training.batches import TRAINED_AT
from trainer_backend.training.kernels.attention import PER_DOCUMENT
from trainer_backend.training.kernels.shared_attention import Share, shared_row

Pieces = tuple[tuple[int, int], ...]
OWN_TOKENS = "own_tokens"  # of a batch: how many of the row's tokens this process has
_KEYS = {"input_ids", "labels", "position_ids", "seq_lengths", TRAINED_AT}


class SharedRows:
    """Trains batches together with the other processes."""

    def __init__(self, trainer: Any):
        check_shared(trainer)
        self._device = trainer.args.device
        self._world, self._rank = dist.get_world_size(), dist.get_rank()
        self._group = dist.new_group()  # beside DDP's own sums of gradients

    def step(
        self, train: Callable[[dict[str, Any]], Tensor], model: Any, batch: dict[str, Any]
    ) -> Tensor:
        """Train the batch of every process by `train(part)`; returns the sum of the losses."""
        if set(batch) - _KEYS or "seq_lengths" not in batch:
            raise ValueError("context_parallel shares joined rows of tokens only.")
        losses = []
        for source in range(self._world):
            share, part = cut(self._from(source, batch), self._rank, self._world, self._group)
            last = source == self._world - 1  # DDP sums gradients once, after the last
            quiet = nullcontext() if last or not hasattr(model, "no_sync") else model.no_sync()
            with quiet, shared_row(share):
                losses.append(train(part))
        return torch.stack(losses).sum()

    def _from(self, source: int, batch: dict[str, Any]) -> dict[str, Any]:
        plain = {name: one.cpu() if isinstance(one, Tensor) else one for name, one in batch.items()}
        sent = [plain if source == self._rank else None]
        dist.broadcast_object_list(sent, source, group=self._group, device=self._device)
        assert sent[0] is not None
        return sent[0]


def check_shared(trainer: Any) -> None:
    """Raise ValueError with the reason where rows cannot be shared."""
    args, traits, model = trainer.args, trainer._traits, trainer.model
    text = model.config.get_text_config()
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    softcap = getattr(text, "attn_logit_softcapping", None)
    own = trainer.compute_loss_func is not None or trainer.data_collator is not trainer._usual
    reasons = {
        "it needs two or more processes (torchrun or accelerate launch)": args.world_size < 2,
        "FSDP and DeepSpeed share out the model instead": sharded,
        "this model cannot keep packed examples apart": not traits.packs or traits.spec is None,
        "its attention is not ours": model.config._attn_implementation != PER_DOCUMENT,
        "attention of this model is soft-capped": softcap is not None,
        "attention has dropout": bool(getattr(text, "attention_dropout", 0.0)),
        "a mixture of experts balances whole rows": trainer.aux_loss_enabled,
        "neftune_noise_alpha goes by the length of rows": bool(args.neftune_noise_alpha),
        "a compute_loss_func or data_collator of your own wants whole rows": own,
    }
    for reason, holds in reasons.items():
        if holds:
            raise ValueError(f"context_parallel=True: {reason}.")


def pieces_of(tokens: int, world: int) -> tuple[Pieces, ...]:
    """The tokens of each process: an early and a late piece, for late tokens see more keys."""
    borders = [tokens * at // (2 * world) for at in range(2 * world + 1)]
    spans = list(zip(borders, borders[1:], strict=False))
    return tuple((spans[at], spans[-1 - at]) for at in range(world))


def cut(
    batch: dict[str, Any], rank: int, world: int, group: Any = None
) -> tuple[Share, dict[str, Any]]:
    """This process's part of a joined batch [1, tokens], and where it lies.

    Labels are shifted before the cut. One token is added at the end, so that the part's own shift
    leaves every token of the row its label.
    """
    tokens = batch["input_ids"].shape[1]
    parts = pieces_of(tokens, world)
    following = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)

    def own(rows: Tensor) -> Tensor:
        return torch.cat([rows[:, begin:end] for begin, end in parts[rank]], dim=1)

    ids, positions, labels = map(own, (batch["input_ids"], batch["position_ids"], following))
    part = {
        "input_ids": torch.nn.functional.pad(ids, (0, 1)),
        "position_ids": torch.nn.functional.pad(positions, (0, 1)),
        "labels": torch.nn.functional.pad(labels, (1, 0), value=IGNORED),
        "seq_lengths": [ids.shape[1] + 1],
        OWN_TOKENS: ids.shape[1],
    }
    return Share(rank, parts, tuple(batch["seq_lengths"]), group), part
