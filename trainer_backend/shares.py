"""A model that several processes hold in shares: saved as one, read again by any number of them.

That it is shared out is said to accelerate in agree.py; what makes a checkpoint count is saving.py.
"""

from pathlib import Path

import torch
import torch.distributed as dist
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor
from transformers import Trainer

from .agree import first_writes
from .model import load_base

ADAPTER = "adapter_model.safetensors"
OPTIMIZER, SCHEDULER = "optimizer.bin", "scheduler.pt"


class Shares:
    """Takes the place of a trainer's saving and loading of weights and optimizer.

    The trainer's own writes a sharded model twice, once as others read it and once for itself,
    gathers a frozen base to save its adapter, and lets no other number of processes go on.
    """

    def attach(self, trainer: Trainer) -> None:
        """Save and load for this trainer."""
        self._trainer = trainer
        trainer.save_model = self.save_model
        trainer._save_optimizer_and_scheduler = self.save_optimizer
        trainer._load_from_checkpoint = self.load_model
        trainer._load_best_model = self.load_best
        trainer._load_optimizer_and_scheduler = self.load_optimizer

    def save_model(self, output_dir: str, _internal_call: bool = False) -> None:
        """Write the adapter, or the whole model, as from_pretrained reads it.

        Raises OSError on all processes when the first one cannot write.
        """
        state = whole_state(self._trainer.model)
        first_writes(lambda: self._trainer._save(output_dir, state_dict=state))

    def save_optimizer(self, output_dir: str) -> None:
        """Write the optimizer's state by the names of the weights, and the scheduler's."""
        trainer, folder = self._trainer, Path(output_dir)
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = get_optimizer_state_dict(trainer.model, trainer.optimizer, options=options)

        def write() -> None:
            torch.save(state, folder / OPTIMIZER)
            torch.save(trainer.lr_scheduler.state_dict(), folder / SCHEDULER)

        first_writes(write)

    def load_model(self, folder: str, model: torch.nn.Module | None = None) -> None:
        """Give each process its share of saved weights, which the first process reads."""
        model = self._trainer.model if model is None else model
        state = _read(Path(folder), model) if _is_first() else {}
        set_model_state_dict(model, state, options=_shared_out(strict=False))

    def load_best(self) -> None:
        """Go back to the best checkpoint's weights."""
        self.load_model(self._trainer.state.best_model_checkpoint)

    def load_optimizer(self, folder: str | None) -> None:
        """Give each process its share of a saved optimizer, and the scheduler's state."""
        if folder is None:
            return
        trainer, state = self._trainer, {}
        if _is_first():
            state = torch.load(Path(folder) / OPTIMIZER, map_location="cpu", weights_only=True)
        set_optimizer_state_dict(trainer.model, trainer.optimizer, state, options=_shared_out())
        schedule = torch.load(Path(folder) / SCHEDULER, weights_only=True)
        trainer.lr_scheduler.load_state_dict(schedule)


def own_share(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor: all of it, unless it is shared out."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A model's weights by name on the CPU, of an adapted model those that learn; empty elsewhere.

    All processes of a run call this. Weights under two names stay one tensor.
    """
    state = model.state_dict(keep_vars=True)
    if isinstance(model, PeftModel):
        state = {name: one for name, one in state.items() if one.requires_grad}
    gathered = {}
    for one in state.values():
        if id(one) not in gathered:
            full = one.full_tensor() if isinstance(one, DTensor) else one
            gathered[id(one)] = full.detach().cpu() if _is_first() else None
    return {name: gathered[id(one)] for name, one in state.items()} if _is_first() else {}


def _is_first() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def _shared_out(strict: bool = True) -> StateDictOptions:
    spread = dist.is_initialized()
    return StateDictOptions(full_state_dict=True, broadcast_from_rank0=spread, strict=strict)


def _read(folder: Path, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Saved weights by the names they have in `model`. Raises UserError and RuntimeError."""
    if not isinstance(model, PeftModel):  # read as a model: files may name weights otherwise
        return load_base(folder, "fp32", "cpu").state_dict()
    learning = {name: one for name, one in model.named_parameters() if one.requires_grad}
    names = {id(one): name for name, one in learning.items()}
    places = get_peft_model_state_dict(model, state_dict=learning)  # the same tensors, renamed
    stored = load_file(folder / ADAPTER)
    if missing := places.keys() - stored.keys():
        raise RuntimeError(f"{folder.name} has no {sorted(missing)[0]}")
    return {names[id(one)]: stored[saved] for saved, one in places.items()}
