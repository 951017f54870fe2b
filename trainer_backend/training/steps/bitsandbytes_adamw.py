"""bitsandbytes' AdamW without a wait for the GPU after each tensor.

The update is the library's own; paged state, which needs the waits, is left to the library.
"""

from collections.abc import Callable
from typing import Any

import torch
from bitsandbytes.optim import AdamW


class PromptAdamW(AdamW):
    """AdamW with state in 8 or 32 bits (arXiv 2110.02861) whose updates only queue on the GPU.

    The library waits for the GPU after every tensor, which an adapter has hundreds of, though each
    update follows the one before it on the same stream. Trainer keeps embeddings in 32 bits where
    it reads “bitsandbytes” in the full name of the class.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the weights that have a gradient; returns what `closure` does, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not self.initialized:
            self.check_overrides()
            self.to_gpu()
            self.initialized = True
        for group_at, group in enumerate(self.param_groups):
            for at, weight in enumerate(group["params"]):
                if weight.grad is None:
                    continue
                if not self.state[weight]:
                    self.init_state(group, weight, group_at, at)
                self.update_step(group, weight, group_at, at)
        return loss


def unwaiting(chosen: tuple[Any, dict[str, Any]]) -> tuple[Any, dict[str, Any]]:
    """An optimizer class and its arguments, with bitsandbytes' unpaged AdamW exchanged."""
    kind, arguments = chosen
    plain = kind is AdamW and not arguments.get("is_paged")
    return (PromptAdamW if plain else kind), arguments
