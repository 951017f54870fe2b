"""What the backward pass needs of a long row waits in main memory, and comes back ahead of its use.

Copies run beside the computation, on a stream of their own. Only large tensors that no weight is go
there; the last one kept stays on the device, for the backward pass begins with it. Who keeps what
(checkpointing: the inputs of layers) is not decided here. On a CPU there is nothing to do.
"""

import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

PAGE = 32 << 20  # bytes of page-locked memory that are asked for at a time
SMALLEST = 1 << 20  # bytes of a tensor that is worth moving
LEAVING = 2  # tensors whose copies may run while they are still on the device


class Lane(Protocol):
    """Copies beside the computation, in the order in which they were asked for."""

    def copy(self, pairs: list[tuple[Tensor, Tensor]]) -> Any:
        """Copy the second of each pair into the first, after what is computed by now: a ticket."""

    def wait(self, ticket: Any) -> None:
        """Let the computation go on only after the copies of a ticket."""


class CudaLane:
    """A stream of one GPU."""

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def copy(self, pairs: list[tuple[Tensor, Tensor]]) -> torch.cuda.Event:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for target, source in pairs:
                target.copy_(source, non_blocking=True)
        return self._stream.record_event()

    def wait(self, ticket: torch.cuda.Event) -> None:
        torch.cuda.current_stream(self._device).wait_event(ticket)


class Pages:
    """Main memory in pages of one size, reused; page-locked as long as the system grants it."""

    def __init__(self, pinned: bool, size: int = PAGE):
        self.size, self.pinned = size, pinned
        self.made = 0
        self._free: list[Tensor] = []

    def take(self, count: int) -> list[Tensor]:
        return [self._free.pop() if self._free else self._new() for _ in range(count)]

    def give_back(self, pages: list[Tensor]) -> None:
        self._free += pages

    def _new(self) -> Tensor:
        self.made += 1
        if self.pinned:
            try:
                return torch.empty(self.size, dtype=torch.uint8, pin_memory=True)
            except RuntimeError:  # the system locks no more of it: slower, and as right
                self.pinned = False
        return torch.empty(self.size, dtype=torch.uint8)


class _Parcel:
    """One tensor that is kept: on the device (`source`), in `pages`, or on its way back."""

    def __init__(self, source: Tensor, pages: list[Tensor], before: "_Parcel | None"):
        self.source: Tensor | None = source
        self.version = source._version
        self.like = source.new_empty(0)
        self.shape, self.pages = source.shape, pages
        self.before = None if before is None else weakref.ref(before)
        self.left: Any = None  # the ticket of the copy to main memory
        self.coming: tuple[Tensor, Any] | None = None  # the tensor and its ticket


class Offloader:
    """Moves what autograd keeps inside `around()`."""

    def __init__(self, lane: Lane, pages: Pages, device: str, smallest: int = SMALLEST):
        self._lane, self._pages = lane, pages
        self._device, self._smallest = device, smallest
        self._leaving: deque[_Parcel] = deque()
        self._last: weakref.ref[_Parcel] | None = None
        self.moved = 0  # bytes copied to main memory

    def around(self) -> AbstractContextManager:
        """The context of a forward and a backward pass."""
        return saved_tensors_hooks(self._keep, self._bring)

    def _is_moved(self, tensor: Tensor) -> bool:
        large = tensor.nbytes >= self._smallest and tensor.device.type == self._device
        plain = type(tensor) is Tensor and tensor.layout == torch.strided
        return large and plain and tensor.is_contiguous() and not _is_weight(tensor)

    def _keep(self, tensor: Tensor) -> Any:
        moved, tensor = self._is_moved(tensor), tensor.detach()
        if not moved:  # without its history: an output kept with it would hold itself for ever
            return tensor
        pages = self._pages.take(-(-tensor.nbytes // self._pages.size))
        parcel = _Parcel(tensor, pages, None if self._last is None else self._last())
        _at_the_end(parcel, self._pages.give_back, pages)
        pairs = list(_pairs(tensor, pages))
        parcel.left = self._lane.copy([(page, part) for part, page in pairs])
        self.moved += tensor.nbytes
        self._last = weakref.ref(parcel)
        self._leaving.append(parcel)
        while len(self._leaving) > LEAVING:
            self._let_go(self._leaving.popleft())
        return parcel

    def _let_go(self, parcel: _Parcel) -> None:
        """Give up the place on the device; the copy is through before it is used for anything."""
        assert parcel.source is not None
        if parcel.source._version != parcel.version:
            raise RuntimeError("a tensor kept for the backward pass was changed in place")
        self._lane.wait(parcel.left)
        parcel.source = None

    def _bring(self, kept: Any) -> Tensor:
        if not isinstance(kept, _Parcel):
            return kept
        before = None if kept.before is None else kept.before()
        tensor = kept.source
        if tensor is None:
            self._fetch(kept)
            assert kept.coming is not None
            tensor, ticket = kept.coming
            self._lane.wait(ticket)
            kept.coming = None
        elif tensor._version != kept.version:
            raise RuntimeError("a tensor kept for the backward pass was changed in place")
        if before is not None and before.source is None:
            self._fetch(before)
        return tensor

    def _fetch(self, parcel: _Parcel) -> None:
        """Start the way back, unless it has begun."""
        if parcel.coming is not None:
            return
        tensor = parcel.like.new_empty(parcel.shape)
        ticket = self._lane.copy(list(_pairs(tensor, parcel.pages)))
        parcel.coming = tensor, ticket
        # given up unused (a step that failed), its place is not used before the copy is through
        _at_the_end(parcel, self._lane.wait, ticket)

    def forget(self) -> None:
        """Let go of what a step has left: after its backward pass, or when it failed."""
        for parcel in self._leaving:
            self._lane.wait(parcel.left)
            parcel.source = None
        self._leaving.clear()
        self._last = None


def _at_the_end(parcel: _Parcel, do: Callable[[Any], None], what: Any) -> None:
    """do(what) once the backward pass has let go of the parcel; not when the program ends."""
    weakref.finalize(parcel, do, what).atexit = False


def _pairs(tensor: Tensor, pages: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """(part of the tensor, its place in a page), both as bytes."""
    flat = tensor.view(-1).view(torch.uint8)
    for at, page in enumerate(pages):
        part = flat[at * page.numel() : (at + 1) * page.numel()]
        yield part, page[: part.numel()]


def _is_weight(tensor: Tensor) -> bool:
    base = tensor if tensor._base is None else tensor._base
    return isinstance(base, torch.nn.Parameter)


@contextmanager
def in_main_memory(offloader: Offloader | None, device: str) -> Iterator[None]:
    """Keep large tensors of a step in main memory; without an offloader by torch's own way."""
    if device == "cpu":
        yield
        return
    if offloader is None:
        with save_on_cpu(pin_memory=True):
            yield
        return
    try:
        with offloader.around():
            yield
    finally:
        offloader.forget()


def offloader_for(device: torch.device) -> Offloader | None:
    """An offloader whose copies run beside the computation, if a trial on this GPU agrees."""
    if device.type != "cuda":
        return None
    made = Offloader(CudaLane(device), Pages(pinned=True), device.type)
    return made if agrees(made, device) else None


def agrees(offloader: Offloader, device: torch.device, numbers: int = 1 << 20) -> bool:
    """Whether gradients of checkpointed layers are the same, bit by bit, with and without it.

    Three rounds of different sizes, for places on the device are used again.
    """
    for count in (numbers, numbers // 2, numbers):
        plain = _trial(count, device)
        with offloader.around():
            moved = _trial(count, device)
        offloader.forget()
        if not all(torch.equal(a, b) for a, b in zip(plain, moved, strict=True)):
            return False
    return True


def _trial(numbers: int, device: torch.device) -> list[Tensor]:
    """Gradients through seven checkpointed layers, whose inputs are `numbers` float32 numbers."""
    first = torch.linspace(-1, 1, numbers, device=device).requires_grad_()
    scales = torch.linspace(0.5, 1.5, 7, device=device).requires_grad_()
    states = first * 1.0
    for one in range(len(scales)):
        states = checkpoint(_layer, states, scales[one], use_reentrant=False)
    wanted = torch.autograd.grad(states.square().sum(), [first, scales])
    return [*wanted]


def _layer(states: Tensor, scale: Tensor) -> Tensor:
    return torch.tanh(states * scale) + states
