"""The kernels of a run on a GPU: chosen when training starts, said in words, undone at its end.

On other devices nothing is chosen and nothing said.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version

import torch
from transformers import PreTrainedModel

from trainer_backend.training.kernels.fused import (
    Conditions,
    Replacement,
    all_in_place,
    find_replacements,
)
from trainer_backend.training.kernels.liger import load_liger
from trainer_backend.training.kernels.loss_choice import choose_loss, triton_failures
from trainer_backend.training.kernels.varlen import choose_varlen
from trainer_backend.training.loss import LossSpec, use_kernel
from trainer_backend.training.sft_config import SFTConfig

_OWN = "Layers: the model's own"


@contextmanager
def chosen_kernels(
    model: PreTrainedModel,
    args: SFTConfig,
    spec: LossSpec | None,
    packs: bool,
    tell: Callable[[str], None],
) -> Iterator[None]:
    """Train with the kernels that agree with the plain computation, while inside.

    `model` is without the adapter's wrapper and lies on the device; `spec` is its fused loss (None:
    it has none), `packs` whether documents share rows. `tell` is given a sentence on each choice.
    """
    if args.device.type != "cuda":
        yield
        return
    device = indexed(args.device)
    with ExitStack() as stack:
        dtype = computing_format(args, model)
        if packs:
            tell(choose_varlen(device, dtype))
        if spec is not None:
            stack.callback(use_kernel, device, None)
            tell(choose_loss(device, dtype, spec))
        replacements, sentence = choose_layers(model, args, device, packs)
        stack.enter_context(all_in_place(replacements))
        tell(sentence)
        yield


def computing_format(args: SFTConfig, model: PreTrainedModel) -> torch.dtype:
    """The format of matrix products: autocast's, else that of the weights."""
    return _autocast(args) or model.dtype


def _autocast(args: SFTConfig) -> torch.dtype | None:
    return torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None


def indexed(device: torch.device) -> torch.device:
    """“cuda” with the number of the card, as tensors have it: devices are compared."""
    if device.index is not None:
        return device
    return torch.device(device.type, torch.cuda.current_device())


def choose_layers(
    model: PreTrainedModel, args: SFTConfig, device: torch.device, packs: bool
) -> tuple[list[Replacement], str]:
    """The layers to replace (none at any doubt), and a sentence that says so."""
    if args.torch_compile:
        return [], f"{_OWN}, compiled by torch."
    if _is_sharded(model, args, device):
        return [], f"{_OWN} (weights are not all on this device)."
    conditions = Conditions(device, _autocast(args), packs)
    try:
        found = find_replacements(model, load_liger(), conditions)
        name = f"liger-kernel {version('liger-kernel')}"
    except (ImportError, PackageNotFoundError):
        return [], f"{_OWN} (liger-kernel or Triton is not installed)."
    except triton_failures() as error:
        why = str(error).strip().splitlines() or [type(error).__name__]
        return [], f"{_OWN} (liger-kernel does not run here: {why[0][:120]})."
    if not found:
        return [], f"{_OWN} ({name} does not agree with them)."
    whats = sorted({one.what for one in found})
    return found, f"Layers: {', '.join(whats)} by {name}."


def _is_sharded(model: PreTrainedModel, args: SFTConfig, device: torch.device) -> bool:
    by_environment = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    if args.fsdp or args.deepspeed or any(name in os.environ for name in by_environment):
        return True
    return any(weight.device != device for weight in model.parameters())
