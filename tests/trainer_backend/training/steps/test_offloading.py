"""Offloading with copies that are late: every use has to wait for them."""

from contextlib import contextmanager

import pytest
import torch

from trainer_backend.training.steps.offloading import (
    CudaLane,
    Offloader,
    Pages,
    agrees,
    in_main_memory,
    offloader_for,
)

CPU = torch.device("cpu")


class LateLane:
    """Copies nothing before it is waited for, as a GPU may."""

    def __init__(self, waits: bool = True):
        self.asked, self.done, self.waits = [], 0, waits

    def copy(self, pairs):
        self.asked.append(pairs)
        return len(self.asked)

    def wait(self, ticket):
        while self.waits and self.done < ticket:
            for target, source in self.asked[self.done]:
                target.copy_(source)
            self.asked[self.done] = None
            self.done += 1


def offloader(lane=None, smallest=256) -> Offloader:
    return Offloader(lane or LateLane(), Pages(pinned=False, size=1000), "cpu", smallest)


def test_gradients_are_the_same_with_copies_that_are_late():
    moves = offloader()
    assert agrees(moves, CPU, 4096)
    assert moves.moved >= 2 * 7 * 4096 * 4
    assert moves._pages.made == len(moves._pages._free)  # every page has come back
    made = moves._pages.made
    assert agrees(moves, CPU, 4096) and moves._pages.made == made


def test_the_trial_notices_copies_that_nobody_waits_for():
    assert not agrees(offloader(LateLane(waits=False)), CPU, 4096)


def test_all_but_the_last_leave_the_device_and_the_next_is_under_way():
    lane = LateLane()
    moves = offloader(lane)
    rows = [torch.full((100,), float(n), requires_grad=True) for n in range(6)]
    with moves.around():
        kept = [row * 2 for row in rows]
        products = [one * one for one in kept]  # keeps `one` twice
    here = [n for n in range(6) if lane.done < 2 * (n + 1)]
    assert here == [5]
    products[3].sum().backward()
    assert torch.equal(rows[3].grad, torch.full((100,), 8 * 3.0))
    fetched = len(lane.asked) - 12
    assert fetched >= 2  # what was used, and what was kept before it
    moves.forget()


def test_weights_small_and_transposed_tensors_stay():
    moves = offloader()
    weight = torch.nn.Parameter(torch.randn(40, 40))
    rows = torch.randn(40, 40, requires_grad=True)
    with moves.around():
        out = (rows @ weight.t()).sum() + (weight * weight).sum() + rows[:2, :2].square().sum()
    moved = moves.moved
    assert moved == rows.nbytes
    out.backward()
    assert weight.grad is not None


def test_a_change_in_place_is_not_overlooked():
    moves = offloader()
    rows = torch.randn(100, requires_grad=True)
    with moves.around():
        kept = rows * 2
        out = kept.square().sum()
    kept.data.add_(0)
    kept.detach().add_(1)
    with pytest.raises(RuntimeError, match="changed in place"):
        out.backward()


def test_memory_that_cannot_be_locked_is_taken_as_it_is(monkeypatch):
    usual = torch.empty

    def refusing(*args, pin_memory=False, **kwargs):
        if pin_memory:
            raise RuntimeError("out of memory")
        return usual(*args, **kwargs)

    monkeypatch.setattr(torch, "empty", refusing)
    pages = Pages(pinned=True, size=10)
    assert [len(one) for one in pages.take(2)] == [10, 10] and not pages.pinned


def test_a_step_that_failed_leaves_nothing_behind():
    moves = offloader()
    with pytest.raises(ValueError), in_main_memory(moves, "any"):
        rows = torch.randn(100, requires_grad=True)
        rows.square()
        raise ValueError
    assert not moves._leaving and moves._last is None
    assert agrees(moves, CPU, 1024)


def test_nothing_is_moved_on_a_cpu():
    assert offloader_for(CPU) is None
    rows = torch.randn(100, requires_grad=True)
    with in_main_memory(None, "cpu"):
        out = rows.square()
    assert out.grad_fn._saved_self.data_ptr() == rows.data_ptr()


def test_without_an_offloader_torch_moves_what_is_kept():
    rows = torch.randn(100, requires_grad=True)
    with in_main_memory(None, "any"):
        out = rows.square()
    out.sum().backward()
    assert torch.equal(rows.grad, 2 * rows.detach())


def test_copies_on_a_gpu_wait_for_the_computation_and_are_waited_for(monkeypatch):
    said = []

    class Stream:
        def __init__(self, name):
            self.name = name

        def wait_stream(self, other):
            said.append(f"{self.name} waits for {other.name}")

        def wait_event(self, event):
            said.append(f"{self.name} waits for {event}")

        def record_event(self):
            return "the copies"

    @contextmanager
    def on(stream):
        said.append(f"on {stream.name}")
        yield

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("side"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("main"))
    monkeypatch.setattr(torch.cuda, "stream", on)
    lane, (a, b) = CudaLane(CPU), torch.tensor([[1.0], [2.0]])
    lane.wait(lane.copy([(a, b)]))
    assert said == ["side waits for main", "on side", "main waits for the copies"]
    assert a.item() == 2.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_copies_run_beside_the_computation():
    device = torch.device("cuda")
    moves = offloader_for(device)
    assert moves is not None and isinstance(moves._lane, CudaLane) and moves.moved > 0
    assert moves._pages.pinned
