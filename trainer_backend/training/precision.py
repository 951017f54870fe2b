"""Which number format to train in on this machine: bf16 or fp16 autocast, or float32.

The formats of quantised weights are not decided here.
"""

import time
import warnings
from functools import lru_cache

import torch
from transformers import TrainingArguments

_SIDE, _ROUNDS = 512, 4  # of the square matrices that are timed
_WORTH = 1.3  # times faster than float32, for bf16 to be chosen on a CPU
_LARGE = 20_000_000  # parameters


def accelerator() -> str:
    """Type of the device that training would use: cuda, mps, another accelerator, or cpu."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return found.type if found is not None else "cpu"


def resolve_precision(bf16: bool | None, fp16: bool, device: str) -> tuple[bool | None, bool]:
    """Return (bf16, fp16) as this device supports them; warns when one is switched off.

    A CUDA device without bf16 trains in fp16, with a gradient scaler. On a CPU bf16=None stays None
    until the model is known: see settle_bf16().
    """
    if fp16 and device == "cpu":
        warnings.warn("fp16 needs a GPU; this CPU trains in float32.", stacklevel=4)
        fp16 = False
        bf16 = bool(bf16)
    if fp16_instead(device) and (bf16 or (bf16 is None and not fp16)):
        warnings.warn(
            "This GPU has no bf16; training in fp16 with a gradient scaler.", stacklevel=4
        )
        bf16, fp16 = False, True
    if bf16 and not bf16_possible(device):
        warnings.warn(f"This {device} has no bf16; training in float32.", stacklevel=4)
        bf16 = False
    if bf16 is None and device != "cpu":
        bf16 = not fp16 and device == "cuda"
    return bf16, fp16


def settle_bf16(args: TrainingArguments, model: torch.nn.Module) -> None:
    """Set args.bf16 where it is None: only large models gain from bf16 on a CPU that is fast in it.

    Small ones stay in float32, which is exact.
    """
    if args.bf16 is None:
        args.bf16 = not args.fp16 and is_large(model) and bf16_pays_on_cpu()
        if args.bf16:
            args.mixed_precision = "bf16"


def is_large(model: torch.nn.Module) -> bool:
    """Whether a model has enough parameters (20 million) for the number format to matter."""
    return sum(p.numel() for p in model.parameters()) >= _LARGE


def halve_frozen(model: torch.nn.Module) -> None:
    """Store frozen float32 weights in bf16: autocast would make that copy in every step."""
    for parameter in model.parameters():
        if not parameter.requires_grad and parameter.dtype == torch.float32:
            parameter.data = parameter.data.to(torch.bfloat16)


def fp16_instead(device: str) -> bool:
    """Whether half precision means fp16 on this device, which needs a gradient scaler."""
    return device == "cuda" and not bf16_possible(device)


def bf16_possible(device: str) -> bool:
    """Whether the device has bf16 instructions rather than emulating them."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device != "cpu":
        return True
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@lru_cache(maxsize=1)
def bf16_pays_on_cpu() -> bool:
    """Whether a bf16 matrix product is at least 1.3 times as fast as in float32, measured once."""
    if not bf16_possible("cpu"):
        return False
    return _seconds(torch.float32) > _WORTH * _seconds(torch.bfloat16)


def _seconds(dtype: torch.dtype) -> float:
    a, b = (torch.ones(_SIDE, _SIDE, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(_ROUNDS):
        start = time.process_time()  # processor time: other programs do not count
        a @ b
        best = min(best, time.process_time() - start)
    return best
