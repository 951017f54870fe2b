"""Kernels for attention over the documents of a row on CUDA, and which of them a card can run.

torch's own by default; flash-attn's where that package is installed, the card is made for it and
it gives what torch's gives. One product per document, for everything else, is not here.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention

WIDEST = 256  # a head's width in the kernels of FlashAttention-2 and -3
AMPERE, HOPPER = (8, 0), (9, 0)
_PROBED = (37, 5, 64, 22)  # tokens of the documents that a package is tried on
_SOFTCAP = 20.0


@dataclass(frozen=True)
class VarlenKernel:
    """A function that attends causally within each document.

    Called with `query`, `key`, `value` [tokens, heads, width] in half precision, the starts of the
    documents (int32 [documents + 1]), the longest document, the window (0: none), the scale (None:
    1 / sqrt(width)) and the soft cap (None: none); returns [tokens, heads, width].
    """

    name: str
    function: Callable[..., Any]
    softcaps: bool

    def __call__(  # noqa: PLR0913 - what every such kernel takes
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        starts: Tensor,
        longest: int,
        window: int,
        scale: float | None,
        softcap: float | None = None,
    ) -> Tensor:
        seen = (window - 1, 0) if window else (-1, 0)
        more: dict[str, Any] = {"window_size": seen, "scale": scale, "softmax_scale": scale}
        more |= {"causal": True, "enable_gqa": query.shape[1] != key.shape[1]}
        if softcap is not None:
            more["softcap"] = softcap
        known = {name: value for name, value in more.items() if name in _names(self.function)}
        out = self.function(query, key, value, starts, starts, longest, longest, **known)
        return out[0] if isinstance(out, tuple) else out


@lru_cache(maxsize=16)
def _names(function: Callable[..., Any]) -> frozenset[str]:
    """What the installed version takes: torch 2.11 knows no enable_gqa and needs none."""
    return frozenset(signature(function).parameters)


TORCH = VarlenKernel("torch's variable-length kernel", varlen_attn, softcaps=False)
_chosen: dict[torch.device, VarlenKernel] = {}


def kernel_for(
    device: torch.device, dtype: torch.dtype, width: int, softcap: float | None
) -> VarlenKernel | None:
    """The kernel for these tensors on a CUDA device; None: attend document by document."""
    kernel = _chosen.get(device, TORCH)
    if not runs_on(_capability(device), dtype) or width > WIDEST or width % 8:
        return None
    return kernel if softcap is None or kernel.softcaps else None


def runs_on(capability: tuple[int, int], dtype: torch.dtype) -> bool:
    """Whether a card of this compute capability has variable-length attention in this format."""
    return capability >= AMPERE and dtype in (torch.float16, torch.bfloat16)


@lru_cache(maxsize=16)
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


def choose_varlen(device: torch.device, dtype: torch.dtype) -> str:
    """Choose the kernel for packed rows on a CUDA device; returns a sentence that says which.

    Must not run inside a forward pass: it makes a small one of its own.
    """
    capability = _capability(device)
    if not runs_on(capability, dtype):
        needs = f"variable-length kernels need compute capability {_dotted(AMPERE)} and 16 bits"
        here = f"this is {_dotted(capability)} in {str(dtype).removeprefix('torch.')}"
        return f"Attention: one document after the other ({needs}; {here})."
    refused = []
    for kernel in installed_kernels(capability):
        if agrees(kernel, device, dtype):
            _chosen[device] = kernel
            return f"Attention: {kernel.name}."
        refused.append(kernel.name)
    _chosen[device] = TORCH
    why = f" ({', '.join(refused)}: installed, but its results differ)" if refused else ""
    return f"Attention: {TORCH.name}{why}."


def installed_kernels(
    capability: tuple[int, int], find: Callable[[str], ModuleType] = importlib.import_module
) -> list[VarlenKernel]:
    """The kernels of flash-attn that are installed and made for the card, the fastest first.

    FlashAttention-3 (arXiv 2407.08608) is for Hopper alone; -2 is what torch's kernel is too, and
    adds soft-capped attention.
    """
    packages: Mapping[str, tuple[str, bool]] = {
        "flash_attn_interface": ("flash-attn 3", capability[0] == HOPPER[0]),
        "flash_attn": ("flash-attn 2", capability >= AMPERE),
    }
    found = []
    for package, (name, fits) in packages.items():
        if not fits:
            continue
        try:
            function = find(package).flash_attn_varlen_func
        except (ImportError, OSError, AttributeError, RuntimeError):  # absent, or for other torches
            continue
        found.append(VarlenKernel(name, function, "softcap" in _names(function)))
    return found


def agrees(kernel: VarlenKernel, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether values and gradients are those of plain attention, as near as torch's own come."""
    caps = [None, _SOFTCAP] if kernel.softcaps else [None]
    return all(_near(kernel, device, dtype, window, cap) for window in (0, 16) for cap in caps)


def _near(
    kernel: VarlenKernel,
    device: torch.device,
    dtype: torch.dtype,
    window: int,
    softcap: float | None,
) -> bool:
    draw = torch.Generator(device).manual_seed(0)
    shapes = ((sum(_PROBED), heads, 64) for heads in (4, 2, 2, 4))
    made = [torch.randn(one, generator=draw, device=device, dtype=dtype) for one in shapes]
    *inputs, slope = made
    starts = torch.tensor([0, *_PROBED], device=device).cumsum(0, dtype=torch.int32)

    def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return kernel(query, key, value, starts, max(_PROBED), window, None, softcap)

    def written_out(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return reference(query, key, value, _PROBED, window, softcap)

    try:
        found = _values(run, inputs, slope)
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return False
    exact = _values(written_out, [one.float() for one in inputs], slope.float())
    close = 4 * torch.finfo(dtype).eps  # of the size of a result; one rounding is half an eps
    return all(
        a.dtype == dtype and (a.float() - b).norm() <= close * b.norm()
        for a, b in zip(found, exact, strict=True)
    )


def _values(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor], inputs: list[Tensor], slope: Tensor
) -> list[Tensor]:
    """The output and the gradients of the inputs."""
    leaves = [one.detach().requires_grad_() for one in inputs]
    with torch.enable_grad(), torch.autocast(slope.device.type, enabled=False):
        out = attend(*leaves)
        return [out.detach(), *torch.autograd.grad(out, leaves, slope)]


def reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: tuple[int, ...],
    window: int,
    softcap: float | None,
) -> Tensor:
    """The same attention written out with a full mask; inputs and result as VarlenKernel's."""
    document = torch.repeat_interleave(torch.tensor(lengths, device=query.device))
    place = torch.arange(len(document), device=query.device)
    ahead = place[:, None] - place[None]
    seen = (document[:, None] == document[None]) & (ahead >= 0)
    if window:
        seen &= ahead < window
    q, k, v = (one.transpose(0, 1) for one in (query, key, value))
    k, v = (one.repeat_interleave(len(q) // len(k), 0) for one in (k, v))
    if softcap is None:
        return scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(0, 1)
    scores = torch.tanh(q @ k.mT * (q.shape[-1] ** -0.5 / softcap)) * softcap
    weights = torch.softmax(scores.masked_fill(~seen, float("-inf")), dim=-1)
    return (weights @ v).transpose(0, 1)


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
