"""Saves an FSDP-sharded model as one checkpoint and loads it on any number of processes.

The Trainer's own writes such a model twice, once as others read it and once for itself, gathers a
frozen base to save its adapter, and cannot resume on another number of processes.
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

from trainer_backend.models.loaded.load import load_base
from trainer_backend.training.distributed import first_writes

ADAPTER = "adapter_model.safetensors"
OPTIMIZER, SCHEDULER = "optimizer.bin", "scheduler.pt"


def save_sharded(trainer: Trainer, folder: str) -> None:
    """Write the adapter, or the whole model, as from_pretrained reads it.

    Raises OSError on all processes when the first one cannot write.
    """
    state = whole_state(trainer.model)
    first_writes(lambda: trainer._save(folder, state_dict=state))


def save_sharded_optimizer(trainer: Trainer, folder: str) -> None:
    """Write the optimizer's state by the names of the weights, and the scheduler's.

    Raises OSError on all processes when the first one cannot write.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_optimizer_state_dict(trainer.model, trainer.optimizer, options=options)

    def write() -> None:
        torch.save(state, Path(folder) / OPTIMIZER)
        torch.save(trainer.lr_scheduler.state_dict(), Path(folder) / SCHEDULER)

    first_writes(write)


def load_sharded(model: torch.nn.Module, folder: str) -> None:
    """Give each process its shard of saved weights, which the first process reads."""
    state = _read(Path(folder), model) if _is_first() else {}
    set_model_state_dict(model, state, options=_shared_out(strict=False))


def load_sharded_optimizer(trainer: Trainer, folder: str | None) -> None:
    """Give each process its shard of a saved optimizer, and the scheduler's state."""
    if folder is None:
        return
    state = {}
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
