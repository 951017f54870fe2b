"""The fused loss on a CUDA device: value, gradients and counts are those of the plain one."""

import pytest
import torch

from trainer_backend.training import loss as loss_room
from trainer_backend.training.loss import LossSpec, fused_linear_loss, logits_loss

pytestmark = pytest.mark.gpu

SPECS = [
    LossSpec(),
    LossSpec(label_smoothing=0.1),
    LossSpec("dft"),
    LossSpec(logit_scale=0.25, softcap=3.0),
]


@pytest.fixture
def problem(device, monkeypatch):
    """300 positions, a vocabulary of 5,000, and chunks so small that there are several."""
    monkeypatch.setitem(loss_room.CHUNK_BYTES, device, 4 * 5000 * 64)
    torch.manual_seed(0)
    head = torch.nn.Linear(64, 5000, bias=False)
    hidden, targets = torch.randn(300, 64), torch.randint(0, 5000, (300,))
    return hidden.to(device).requires_grad_(), head.to(device), targets.to(device)


def results(sums, hidden, head) -> list[torch.Tensor]:
    gradients = torch.autograd.grad(sums.loss * 0.5, [hidden, head.weight])
    return [*(one.detach().float() for one in sums), *gradients]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_in_float32(problem, spec):
    hidden, head, targets = problem
    logits = head(hidden) * spec.logit_scale
    if spec.softcap:
        logits = torch.tanh(logits / spec.softcap) * spec.softcap
    wanted = results(logits_loss(logits, targets, spec), hidden, head)
    found = results(fused_linear_loss(hidden, head.weight, None, targets, spec), hidden, head)
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_under_autocast_it_adds_up_in_float32(problem, device):
    hidden, head, targets = problem
    exact = results(fused_linear_loss(hidden, head.weight, None, targets, LossSpec()), hidden, head)
    with torch.autocast(device, torch.bfloat16):
        sums = fused_linear_loss(hidden, head.weight, None, targets, LossSpec())
    assert sums.loss.dtype == torch.float32
    rough = results(sums, hidden, head)
    assert rough[0].item() == pytest.approx(exact[0].item(), rel=1e-3)
    for a, b in zip(rough[-2:], exact[-2:], strict=True):
        assert (a - b).norm() <= 2e-2 * b.norm()


def test_no_trained_token_is_a_zero_that_can_go_backward(problem):
    hidden, head, _ = problem
    nothing = torch.empty(0, dtype=torch.long, device=hidden.device)
    sums = fused_linear_loss(hidden[:0], head.weight, None, nothing, LossSpec())
    sums.loss.backward()
    assert sums.loss == 0 and sums.trained == 0
