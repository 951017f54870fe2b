"""Work recorded once on a GPU and queued again as a whole: torch's CUDA graphs.

A graph repeats the kernels of its recording on the very same addresses, so what it reads and
writes must stay in place. What is recorded, and whether it pays, is decided elsewhere.
"""

import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import torch

_T = TypeVar("_T")
_WARM_UPS = 3  # as torch.cuda.make_graphed_callables: libraries choose and allocate in them


class Recording(Protocol[_T]):
    """Recorded work; `outputs` are the tensors that each replay fills anew."""

    outputs: _T

    def replay(self) -> None:
        """Do the work again, on what its inputs hold now."""


class Recorder(Protocol):
    """Records work that is always the same but for the contents of its tensors."""

    def record(self, work: Callable[[], _T]) -> Recording[_T]:
        """Do the work some times and record it. Raises what the work raises while recorded."""

    def timed(self, work: Callable[[], _T]) -> tuple[_T, float]:
        """What `work` returns, and the seconds until the device has done it."""


class CudaRecording(Generic[_T]):
    """A captured graph."""

    def __init__(self, graph: torch.cuda.CUDAGraph, outputs: _T):
        self._graph, self.outputs = graph, outputs

    def replay(self) -> None:
        """Queue the graph on the current stream."""
        self._graph.replay()


class CudaRecorder:
    """Captures on a stream of its own, into one pool of memory that all its graphs share.

    They may, for one runs after the other and nothing is read from the pool but outputs, which are
    read at once (torch's notes on CUDA semantics, “Graph memory management”). Dropout draws from
    the default generator, which torch advances with each replay.
    """

    def __init__(self, device: torch.device):
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, work: Callable[[], _T]) -> CudaRecording[_T]:
        """As Recorder. Threads that pin memory meanwhile do no harm."""
        usual = torch.cuda.current_stream()
        graph = torch.cuda.CUDAGraph()
        try:
            self._stream.wait_stream(usual)
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_UPS):
                    work()
            usual.wait_stream(self._stream)
            capture = torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            )
            with capture:
                outputs = work()
        finally:  # a capture that failed leaves its stream the current one
            torch.cuda.set_stream(usual)
        return CudaRecording(graph, outputs)

    def timed(self, work: Callable[[], _T]) -> tuple[_T, float]:
        """As Recorder; waits for the device before and after."""
        torch.cuda.synchronize()
        began = time.perf_counter()
        result = work()
        torch.cuda.synchronize()
        return result, time.perf_counter() - began
