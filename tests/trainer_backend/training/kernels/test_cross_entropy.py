"""The loss kernel gives what PyTorch gives: in Triton's interpreter, or on the card there is."""

import math
import subprocess
import sys

import pytest
import torch

from trainer_backend.training import loss as loss_room
from trainer_backend.training.kernels import loss_choice
from trainer_backend.training.loss import LossSpec, fused_linear_loss

pytest.importorskip("triton", reason="Triton is not installed: no kernel to test")
from trainer_backend.training.kernels import cross_entropy  # noqa: E402

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
SPECS = [
    LossSpec(),
    LossSpec(label_smoothing=0.1),
    LossSpec("dft"),
    LossSpec(logit_scale=0.25, softcap=3.0),
    LossSpec("dft", 0.1, 2.0, 30.0),
]


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert loss_room._kernels == {}


def expected(raw, targets, spec):
    logits, bent = loss_room._cap(raw.float(), spec)
    loss, hits, entropy, probabilities, weights = loss_room._token_terms(logits, targets, spec)
    slope = loss_room._slope(probabilities.clone(), targets, weights, bent, spec)
    return torch.stack((loss, hits.float(), entropy)), slope.to(raw.dtype)


def run(raw, targets, spec, writes=True):
    terms = torch.full((3, len(raw)), math.inf, device=DEVICE)
    found = raw.clone()
    cross_entropy.cross_entropy_(
        found,
        targets,
        terms,
        logit_scale=spec.logit_scale,
        softcap=spec.softcap,
        label_smoothing=spec.label_smoothing,
        weighted=spec.loss_type == "dft",
        writes=writes,
    )
    return terms, found


def made(rows, vocabulary, dtype):
    torch.manual_seed(0)
    raw = (torch.randn(rows, vocabulary) * 4).to(DEVICE, dtype)
    targets = torch.randint(0, vocabulary, (rows,)).to(DEVICE)
    targets[::2] = raw.argmax(-1)[::2]
    return raw, targets


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("vocabulary", [1, 50, 300])
def test_each_row_has_pytorchs_numbers(monkeypatch, spec, dtype, vocabulary):
    monkeypatch.setattr(cross_entropy, "LARGEST_BLOCK", 64)  # several blocks, the last one partly
    raw, targets = made(3, vocabulary, dtype)
    terms, slope = run(raw, targets, spec)
    wanted, gradient = expected(raw, targets, spec)
    assert torch.equal(terms[1], wanted[1])
    assert torch.allclose(terms, wanted, rtol=1e-5, atol=2e-5)
    eps = torch.finfo(dtype).eps
    assert slope.dtype == dtype
    assert torch.allclose(slope.float(), gradient.float(), rtol=2 * eps, atol=max(eps / 64, 4e-6))


def test_without_gradients_the_logits_stay_and_no_row_is_no_work():
    raw, targets = made(4, 70, torch.float32)
    terms, same = run(raw, targets, LossSpec(), writes=False)
    assert torch.equal(same, raw)
    assert torch.allclose(terms, expected(raw, targets, LossSpec())[0], atol=2e-5)
    assert run(raw[:0], targets[:0], LossSpec())[0].shape == (3, 0)


def test_large_equal_masked_and_broken_logits():
    raw, targets = made(5, 70, torch.float32)
    raw[0] *= 1e4  # all probability on one token
    raw[1] = 7.0  # on none
    raw[2, :60] = -math.inf  # a masked part of the vocabulary
    targets[2] = 65
    raw[3, 5] = math.nan
    targets[4] = 70  # no such token
    terms, slope = run(raw, targets, LossSpec())
    plain = torch.nn.functional.cross_entropy(raw[:3], targets[:3], reduction="none")
    assert torch.allclose(terms[0, :3], plain, rtol=1e-6)
    assert terms[2, 0] == 0 and torch.isclose(terms[2, 1], torch.tensor(math.log(70)).to(DEVICE))
    own = raw[2, 60:].softmax(-1)
    assert torch.isclose(terms[2, 2], -(own * own.log()).sum())
    assert torch.isfinite(slope[:3]).all() and (slope[2, :60] == 0).all()
    assert terms[0, 3].isnan() and slope[3].isnan().any() and terms[0, 4].isnan()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("spec", SPECS[::2], ids=str)
def test_the_head_in_chunks_gives_the_same_loss_and_gradients(monkeypatch, dtype, spec):
    monkeypatch.setattr(loss_room, "KERNEL_BYTES", 1)  # chunks of 32 rows
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 50, device=DEVICE, dtype=dtype)
    hidden = torch.randn(70, 16).to(DEVICE, dtype).requires_grad_()
    targets = torch.randint(0, 50, (70,)).to(DEVICE)
    learning = [hidden, head.weight, head.bias]

    def values():
        sums = fused_linear_loss(hidden, head.weight, head.bias, targets, spec)
        return [*sums], torch.autograd.grad(sums.loss * 0.5, learning)

    wanted, gradients = values()
    monkeypatch.setitem(loss_room._kernels, DEVICE, cross_entropy.cross_entropy_)
    found, others = values()
    monkeypatch.undo()
    close = 1e-5 if dtype == torch.float32 else 2e-2
    assert torch.allclose(torch.stack(found), torch.stack(wanted), rtol=1e-5)
    for a, b in zip(others, gradients, strict=True):
        assert a.dtype == b.dtype and (a - b).norm() <= close * b.norm()


def test_the_kernel_is_used_where_it_agrees_and_said(monkeypatch):
    monkeypatch.setattr(loss_choice, "_VOCABULARY", 2050)
    said = loss_choice.choose_loss(DEVICE, torch.bfloat16, LossSpec(softcap=20.0))
    assert said == "Loss: one Triton kernel over the logits, gradient in place."
    assert loss_room._kernels.pop(DEVICE) is cross_entropy.cross_entropy_


@pytest.mark.parametrize("fault", ["value", "gradient", "raises", "missing"])
def test_a_kernel_in_doubt_is_not_used(monkeypatch, fault):
    right = cross_entropy.cross_entropy_

    def kernel(logits, targets, terms, **settings):
        if fault == "raises":
            raise RuntimeError("Failed to find C compiler.\nPlease specify one")
        right(logits, targets, terms, **settings)
        terms[0] *= 1.001 if fault == "value" else 1
        if settings["writes"] and fault == "gradient":
            logits *= 1.05

    monkeypatch.setattr(loss_choice, "_VOCABULARY", 300)
    monkeypatch.setattr(cross_entropy, "cross_entropy_", kernel)
    if fault == "missing":
        monkeypatch.setattr(loss_choice, "_KERNEL", "trainer_backend.no_such_module")
    said = loss_choice.choose_loss(DEVICE, torch.bfloat16, LossSpec())
    assert said.startswith("Loss: in PyTorch (") and "\n" not in said
    assert ("C compiler" in said) == (fault == "raises")


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from trainer_backend.training.kernels.cross_entropy import _cross_entropy as kernel
kinds = ["*bf16", "i32", "*i64", "*fp32", "i32", "i32", "fp32", "fp32", "fp32"]
names = kernel.arg_names
signature = dict(zip(names, kinds + ["constexpr"] * 5))
constants = dict(zip(names[9:], [True, True, True, True, 16384]))
source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
for card in (75, 80, 90):
    made = triton.compile(source, target=GPUTarget("cuda", card, 32), options={"num_warps": 16})
    print(card, len(made.asm["cubin"]) > 0)
"""


def test_the_kernel_compiles_for_cards_old_and_new(tmp_path):
    """Without a card: the interpreter accepts what the compiler does not."""
    place = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env={**place, "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.split("\n")[:3] == ["75 True", "80 True", "90 True"], done.stderr[-2000:]
