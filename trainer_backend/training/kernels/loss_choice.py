"""Lets a GPU compute the loss in one Triton kernel where that gives what PyTorch gives."""

import importlib
import subprocess
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from trainer_backend.training.loss import LossSpec, TokenSums, fused_linear_loss, use_kernel

_KERNEL = "trainer_backend.training.kernels.cross_entropy"
_ROWS, _WIDTH = 40, 64
_VOCABULARY = 16384 + 1031  # more than a kernel's block, and no multiple of anything


@lru_cache(maxsize=1)
def triton_failures() -> tuple[type[Exception], ...]:
    """What a kernel raises that is missing, cannot be compiled or does not fit the card."""
    usual = (
        *(ImportError, RuntimeError, OSError, ValueError, TypeError, AttributeError, KeyError),
        *(AssertionError, IndexError, subprocess.SubprocessError),
    )
    try:
        errors = importlib.import_module("triton.errors")
    except ImportError:
        return usual
    return (*usual, errors.TritonError)


def choose_loss(device: torch.device, dtype: torch.dtype, spec: LossSpec) -> str:
    """Use the kernel on this device if it agrees with PyTorch; returns a sentence that says so.

    `dtype` is the format that training computes in. Training and held-out loss are both tried.
    """
    use_kernel(device, None)
    try:
        kernel = importlib.import_module(_KERNEL).cross_entropy_
        agrees = all(
            agrees_with_pytorch(kernel, device, dtype, one, learning)
            for one, learning in ((spec, True), (spec.held_out(), False))
        )
    except triton_failures() as error:
        why = str(error).strip().splitlines() or [type(error).__name__]
        return f"Loss: in PyTorch (the Triton kernel does not run here: {why[0][:120]})."
    if not agrees:
        return "Loss: in PyTorch (the Triton kernel gives other numbers here)."
    use_kernel(device, kernel)
    return "Loss: one Triton kernel over the logits, gradient in place."


def agrees_with_pytorch(
    kernel: Callable[..., None],
    device: torch.device,
    dtype: torch.dtype,
    spec: LossSpec,
    learning: bool,
) -> bool:
    """Whether loss, hits, entropy and gradients over random logits are those of PyTorch.

    Gradients may differ by the rounding of `dtype`, sums in float32 by 1e-4.
    """
    draw = torch.Generator().manual_seed(0)
    made = [torch.randn(size, _WIDTH, generator=draw) for size in (_ROWS, _VOCABULARY)]
    hidden, weight = (one.to(device, dtype).requires_grad_(learning) for one in made)
    targets = torch.randint(_VOCABULARY, (_ROWS,), generator=draw).to(device)
    with torch.no_grad():
        targets[::2] = (hidden @ weight.t()).argmax(-1)[::2]  # half is guessed right
    expected = _tried(None, hidden, weight, targets, spec)
    found = _tried(kernel, hidden, weight, targets, spec)
    sums = zip(found[0], expected[0], strict=True)
    close = 1e-5 if dtype == torch.float32 else torch.finfo(dtype).eps
    return all(torch.allclose(a, b, rtol=1e-4) for a, b in sums) and all(
        bool((a.float() - b.float()).norm() <= close * b.float().norm())
        for a, b in zip(found[1], expected[1], strict=True)
    )


def _tried(
    kernel: Callable[..., None] | None,
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    spec: LossSpec,
) -> tuple[TokenSums, tuple[Tensor, ...]]:
    """The sums, and the gradients of `hidden` and `weight` if they learn."""
    use_kernel(hidden.device, kernel)
    try:
        with torch.enable_grad(), torch.autocast(hidden.device.type, enabled=False):
            sums = fused_linear_loss(hidden, weight, None, targets, spec)
            if not hidden.requires_grad:
                return sums, ()
            return sums, torch.autograd.grad(sums.loss, [hidden, weight])
    finally:
        use_kernel(hidden.device, None)
