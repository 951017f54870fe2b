"""The fused loss against the plain one: same value, same gradients, same counts."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from trainer_backend.training import loss as loss_room
from trainer_backend.training.loss import (
    LossSpec,
    fused_linear_loss,
    head_module_loss,
    logits_loss,
    shift_and_select,
)

SPECS = [
    LossSpec(),
    LossSpec(label_smoothing=0.1),
    LossSpec("dft"),
    LossSpec(logit_scale=0.25, softcap=3.0),
    LossSpec("dft", logit_scale=2.0, softcap=5.0),
]


@pytest.fixture
def problem(monkeypatch):
    """Forty positions, a vocabulary of 50, and chunks of 32 rows so that there are two."""
    monkeypatch.setitem(loss_room.CHUNK_BYTES, "cpu", 4 * 50)
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 50, bias=True)
    hidden, targets = torch.randn(40, 16), torch.randint(0, 50, (40,))
    targets[:12] = head(hidden).argmax(-1)[:12]  # some are guessed right
    return hidden.requires_grad_(), head, targets


def plain(hidden, head, targets, spec):
    logits = head(hidden) * spec.logit_scale
    if spec.softcap:
        logits = torch.tanh(logits / spec.softcap) * spec.softcap
    return logits_loss(logits, targets, spec)


def grads(sums, hidden, head):
    found = torch.autograd.grad(sums.loss * 0.5, [hidden, head.weight, head.bias])
    return [g.clone() for g in found]


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("way", ["fused", "module"])
def test_value_and_gradients_are_those_of_the_plain_loss(problem, spec, way):
    hidden, head, targets = problem
    expected = plain(hidden, head, targets, spec)
    if way == "fused":
        found = fused_linear_loss(hidden, head.weight, head.bias, targets, spec)
    else:
        found = head_module_loss(hidden, head, targets, spec)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)
    for a, b in zip(grads(found, hidden, head), grads(expected, hidden, head), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_plain_loss_is_the_textbooks(problem):
    hidden, head, targets = problem
    logits = head(hidden)
    nll = logits_loss(logits, targets, LossSpec())
    probabilities = logits.softmax(-1)
    assert torch.allclose(nll.loss, cross_entropy(logits, targets, reduction="sum"))
    assert 12 <= nll.correct == (logits.argmax(-1) == targets).sum() < 40
    assert torch.allclose(nll.entropy, -(probabilities * probabilities.log()).sum())
    assert nll.trained == 40
    smooth = logits_loss(logits, targets, LossSpec(label_smoothing=0.2)).loss
    expected = cross_entropy(logits, targets, reduction="sum", label_smoothing=0.2)
    assert torch.allclose(smooth, expected)
    own = probabilities[torch.arange(40), targets].detach()
    dft = (cross_entropy(logits, targets, reduction="none") * own).sum()
    assert torch.allclose(logits_loss(logits, targets, LossSpec("dft")).loss, dft)


def test_frozen_weights_get_no_gradient_and_no_memory(problem):
    hidden, head, targets = problem
    head.requires_grad_(False)
    fused_linear_loss(hidden, head.weight, head.bias, targets, LossSpec()).loss.backward()
    assert hidden.grad is not None
    assert head.weight.grad is None and head.bias.grad is None


def test_labels_are_shifted_and_masked_positions_left_out():
    hidden = torch.arange(8.0).reshape(2, 4, 1)
    labels = torch.tensor([[9, -100, 5, -100], [-100, -100, -100, 7]])
    states, targets = shift_and_select(hidden, labels)
    assert states[:, 0].tolist() == [1.0, 6.0]
    assert targets.tolist() == [5, 7]


def test_no_trained_token_is_a_zero_that_can_go_backward():
    hidden = torch.randn(1, 4, 8, requires_grad=True)
    head = torch.nn.Linear(8, 10)
    states, targets = shift_and_select(hidden, torch.full((1, 4), -100))
    sums = fused_linear_loss(states, head.weight, head.bias, targets, LossSpec())
    sums.loss.backward()
    assert sums.loss == 0 and sums.trained == 0
    assert hidden.grad.abs().sum() == 0
    assert head_module_loss(states, head, targets, LossSpec()).loss == 0


def test_autocast_computes_in_bf16_and_adds_up_in_float32(problem):
    hidden, head, targets = problem
    exact = fused_linear_loss(hidden, head.weight, head.bias, targets, LossSpec())
    with torch.autocast("cpu", torch.bfloat16):
        rough = fused_linear_loss(hidden, head.weight, head.bias, targets, LossSpec())
    assert rough.loss.dtype == torch.float32
    assert torch.allclose(rough.loss, exact.loss, rtol=2e-2) and rough.loss != exact.loss
    rough.loss.backward()
    assert hidden.grad.dtype == torch.float32
