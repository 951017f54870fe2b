"""Which number format this machine should train in: asked for, possible, or measured to be faster.

What a layer computes is not decided here.
"""

import time
import warnings
from functools import lru_cache

import torch

_SIDE, _ROUNDS, _WORTH = 512, 4, 1.3
_LARGE = 20_000_000  # parameters


def accelerator() -> str:
    """Name the device that training would use: cuda, mps, another accelerator, or cpu."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return found.type if found is not None else "cpu"


def resolve_precision(bf16: bool | None, fp16: bool, device: str) -> tuple[bool, bool]:
    """Return (bf16, fp16) as this machine can do them, with a warning for what it cannot.

    On a CPU an open choice stays open until the model is known: see settle_bf16.
    """
    if fp16 and device == "cpu":
        warnings.warn("fp16 needs a GPU; training goes on in float32 on this CPU.", stacklevel=4)
        fp16 = False
        bf16 = bool(bf16)
    if bf16 and not bf16_possible(device):
        warnings.warn(f"This {device} has no bf16; training goes on in float32.", stacklevel=4)
        bf16 = False
    if bf16 is None and device != "cpu":
        bf16 = not fp16 and device == "cuda" and bf16_possible(device)
    return bf16, fp16


def settle_bf16(args, model) -> None:
    """Decide an open choice for this model: small ones gain nothing and stay exact in float32."""
    if args.bf16 is None:
        args.bf16 = not args.fp16 and is_large(model) and bf16_pays_on_cpu()
        if args.bf16:
            args.mixed_precision = "bf16"


def is_large(model) -> bool:
    """Tell whether number formats matter for a model's speed and memory."""
    return sum(p.numel() for p in model.parameters()) >= _LARGE


def halve_frozen(model) -> None:
    """Keep weights that do not learn in bf16: autocast would make that copy in every step."""
    for parameter in model.parameters():
        if not parameter.requires_grad and parameter.dtype == torch.float32:
            parameter.data = parameter.data.to(torch.bfloat16)


def bf16_possible(device: str) -> bool:
    """Tell whether the device computes in bf16 itself rather than emulating it."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device != "cpu":
        return True
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@lru_cache(maxsize=1)
def bf16_pays_on_cpu() -> bool:
    """Measure a matrix product in both formats; bf16 must win clearly."""
    if not bf16_possible("cpu"):
        return False
    return _seconds(torch.float32) > _WORTH * _seconds(torch.bfloat16)


def _seconds(dtype: torch.dtype) -> float:
    a, b = (torch.ones(_SIDE, _SIDE, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(_ROUNDS):
        start = time.process_time()  # by the clock, other programs would decide
        a @ b
        best = min(best, time.process_time() - start)
    return best
