"""Saves an FSDP-sharded model as one checkpoint and loads it on any number of processes.

The Trainer writes such a model twice, gathers a frozen base model to save an adapter, and cannot
resume on another number of processes.
"""

from pathlib import Path
from typing import Any

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
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import Trainer

from trainer_backend.models.loaded.load import load_base
from trainer_backend.training.distributed import first_writes

ADAPTER = "adapter_model.safetensors"
OPTIMIZER, SCHEDULER = "optimizer.bin", "scheduler.pt"


def save_sharded(trainer: Trainer, folder: str) -> None:
    """Write the adapter, or the whole model, as from_pretrained reads it.

    Raises OSError on all processes if the first one cannot write.
    """
    assert trainer.model is not None
    state = whole_state(trainer.model)
    first_writes(lambda: trainer._save(folder, state_dict=state))


def save_sharded_optimizer(trainer: Trainer, folder: str) -> None:
    """Write the optimizer's state, keyed by the names of the weights, and the scheduler's.

    Raises OSError on all processes if the first one cannot write.
    """
    model, optimizer, scheduler = _parts(trainer)
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_optimizer_state_dict(model, optimizer, options=options)

    def write() -> None:
        torch.save(state, Path(folder) / OPTIMIZER)
        torch.save(scheduler.state_dict(), Path(folder) / SCHEDULER)

    first_writes(write)


def load_sharded(model: torch.nn.Module, folder: str) -> None:
    """Load saved weights: the first process reads them, each process gets its shard."""
    state: dict[str, Any] = _read(Path(folder), model) if _is_first() else {}
    set_model_state_dict(model, state, options=_options(strict=False))


def load_sharded_optimizer(trainer: Trainer, folder: str | None) -> None:
    """Load a saved optimizer (each process its shard) and scheduler; nothing without a folder."""
    if folder is None:
        return
    model, optimizer, scheduler = _parts(trainer)
    state: dict[str, Any] = {}
    if _is_first():
        state = torch.load(Path(folder) / OPTIMIZER, map_location="cpu", weights_only=True)
    set_optimizer_state_dict(model, optimizer, state, options=_options())
    scheduler.load_state_dict(torch.load(Path(folder) / SCHEDULER, weights_only=True))


def _parts(trainer: Trainer) -> tuple[torch.nn.Module, Optimizer, LRScheduler]:
    assert trainer.model is not None and trainer.optimizer is not None
    assert trainer.lr_scheduler is not None
    return trainer.model, trainer.optimizer, trainer.lr_scheduler


def own_shard(tensor: torch.Tensor) -> torch.Tensor:
    """The part of a tensor that this process holds: all of it, unless it is sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A model's weights (with an adapter, the trainable ones) by name, on the CPU.

    Collective: all processes call it, and all but the first get {}. Tied weights stay one tensor.
    """
    state = model.state_dict(keep_vars=True)
    if isinstance(model, PeftModel):
        state = {name: one for name, one in state.items() if one.requires_grad}
    gathered: dict[int, torch.Tensor] = {}
    for one in state.values():
        if id(one) not in gathered:
            full = one.full_tensor() if isinstance(one, DTensor) else one
            gathered[id(one)] = full.detach().cpu() if _is_first() else torch.empty(0)
    return {name: gathered[id(one)] for name, one in state.items()} if _is_first() else {}


def _is_first() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def _options(strict: bool = True) -> StateDictOptions:
    several = dist.is_initialized()
    return StateDictOptions(full_state_dict=True, broadcast_from_rank0=several, strict=strict)


def _read(folder: Path, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Saved weights by their names in `model`. Raises UserError and RuntimeError."""
    if not isinstance(model, PeftModel):  # loaded as a model, since names in the files may differ
        return load_base(folder, "fp32", "cpu").state_dict()
    learning = {name: one for name, one in model.named_parameters() if one.requires_grad}
    names = {id(one): name for name, one in learning.items()}
    places = get_peft_model_state_dict(model, state_dict=learning)  # the same tensors, renamed
    stored = load_file(folder / ADAPTER)
    if missing := places.keys() - stored.keys():
        raise RuntimeError(f"{folder.name} has no {sorted(missing)[0]}")
    return {names[id(one)]: stored[saved] for saved, one in places.items()}
