"""Fused layers give what a model's own give, or are not used; in the interpreter or on a card."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model

from trainer_backend.training.capabilities import causal_lm, probe_model
from trainer_backend.training.kernels import choice, fused, liger
from trainer_backend.training.loss import LossSpec
from trainer_backend.training.sft_config import SFTConfig

CARD = torch.cuda.is_available()
DEVICE = torch.device("cuda", 0) if CARD else torch.device("cpu")
WHATS = {"RMSNorm": 5, "SwiGLU": 2, "rotary embedding": 1}


@pytest.fixture
def functions(monkeypatch):
    """liger-kernel's functions; the interpreter lacks two of CUDA's and the types of numbers."""
    pytest.importorskip("triton", reason="Triton is not installed")
    pytest.importorskip("liger_kernel", reason="liger-kernel is not installed")
    found = liger.load_liger()
    if CARD:
        return found
    import numpy
    from liger_kernel.ops import geglu, rms_norm
    from triton import language as tl
    from triton.runtime import interpreter

    usual = interpreter._implicit_cvt

    def typed(value):
        if not isinstance(value, float):
            return usual(value)
        array = numpy.array([value], dtype=numpy.float32)
        return tl.tensor(interpreter.TensorHandle(array, tl.float32), tl.float32)

    monkeypatch.setattr(interpreter, "_implicit_cvt", typed)
    monkeypatch.setattr(rms_norm, "rsqrt", lambda x: 1.0 / tl.sqrt(x))
    monkeypatch.setattr(geglu, "tanh", lambda x: 2.0 * tl.sigmoid(2.0 * x) - 1.0)
    return found


def plain() -> liger.Liger:
    """What liger-kernel computes, in PyTorch: for tests of the choice, quick and in any format."""

    def norm(x, weight, eps, offset, casting):
        y = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + eps)
        if casting == "llama":
            return (weight + offset) * y.to(x.dtype)
        return (y * (weight.float() + offset)).to(x.dtype)

    def rotate(q, k, cos, sin):
        def turned(x):
            half = x.shape[-1] // 2
            return x * cos[:, None] + torch.cat((-x[..., half:], x[..., :half]), -1) * sin[:, None]

        return turned(q), turned(k)

    def gated(act):
        return lambda gate, up: act(gate) * up

    silu, gelu = torch.nn.SiLU(), torch.nn.GELU(approximate="tanh")
    return liger.Liger(norm, gated(silu), gated(gelu), rotate)


def adapted(make_model, **settings):
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(make_model(**settings), config).to(DEVICE).train()
    probe_model(causal_lm(model), LossSpec())
    return model


def step(model):
    ids = torch.arange(4, 16, device=DEVICE)[None]
    loss = model(input_ids=ids, labels=ids).loss
    learning = [p for p in model.parameters() if p.requires_grad]
    return loss.detach(), torch.cat([g.flatten() for g in torch.autograd.grad(loss, learning)])


def found_in(model, functions, autocast=None):
    conditions = fused.Conditions(DEVICE, autocast, packs=True)
    return fused.find_replacements(causal_lm(model), functions, conditions)


def test_ligers_layers_train_like_the_models_own(make_model, functions, monkeypatch):
    monkeypatch.setattr(fused, "_LENGTHS", (4, 3))  # the interpreter is slow
    model = adapted(make_model)
    loss, slopes = step(model)
    found = found_in(model, functions)
    assert Counter(one.what for one in found) == WHATS
    with fused.all_in_place(found):
        quick, others = step(model)
    close = 1e-4 if CARD else 1e-5
    assert torch.allclose(quick, loss, rtol=close)
    assert (others - slopes).norm() <= close * slopes.norm()


def test_in_half_precision_each_kind_is_measured_by_float32(make_model):
    model = adapted(make_model)
    for weight in model.parameters():
        weight.data = weight.data if weight.requires_grad else weight.data.bfloat16()
    assert Counter(one.what for one in found_in(model, plain(), torch.bfloat16)) == WHATS
    assert {one.dtype for one in causal_lm(model).parameters() if not one.requires_grad} == {
        torch.bfloat16
    }


def norms_replaced(model):
    norms = [one for one in model.modules() if type(one).__name__.endswith("RMSNorm")]
    return sum("forward" in vars(one) for one in norms)


def test_all_is_undone_and_generating_goes_the_models_own_way(make_model):
    model = adapted(make_model)
    rotary = fused.sys.modules[type(causal_lm(model).get_decoder()).__module__]
    before = rotary.apply_rotary_pos_emb
    calls, good = [], plain()
    counted = replace(
        good,
        norm=lambda *a: calls.append("norm") or good.norm(*a),
        rotate=lambda *a: calls.append("rotate") or good.rotate(*a),
    )
    ids = torch.arange(4, 12, device=DEVICE)[None]
    expected = model.eval().generate(input_ids=ids, max_new_tokens=6, do_sample=False)
    found = found_in(model.train(), counted)
    calls.clear()
    with fused.all_in_place(found):
        assert rotary.apply_rotary_pos_emb is not before
        again = model.eval().generate(input_ids=ids, max_new_tokens=6, do_sample=False)
        assert torch.equal(again, expected) and calls == []
        step(model.train())
        assert set(calls) == {"norm", "rotate"}
    assert rotary.apply_rotary_pos_emb is before
    assert norms_replaced(model) == 0
    assert len(causal_lm(model).get_decoder().layers) == 2


def broken(part):
    good = plain()
    wrong = {
        "norm": lambda x, w, e, o, c: good.norm(x, w, e + 0.05, o, c),
        "silu": lambda gate, up: good.silu(gate, up) * 1.02,
        "rotate": lambda q, k, cos, sin: good.rotate(q, k, cos, -sin),
    }
    return replace(good, **{part: wrong[part]})


@pytest.mark.parametrize(
    ("part", "what"), [("norm", "RMSNorm"), ("silu", "SwiGLU"), ("rotate", "rotary embedding")]
)
def test_a_function_that_differs_is_left_out(make_model, part, what):
    whats = {one.what for one in found_in(adapted(make_model), broken(part))}
    assert whats == WHATS.keys() - {what}


def test_a_function_that_is_wrong_only_in_a_model_leaves_all_as_it_was(make_model, monkeypatch):
    """As one is that writes over what another layer keeps for its backward pass."""
    monkeypatch.setattr(fused, "norm_for", lambda norm, *_: lambda x, weight: x * weight)
    assert found_in(adapted(make_model), plain()) == []


def test_gradients_alone_are_enough_to_refuse(make_model):
    class Leaning(torch.autograd.Function):
        @staticmethod
        def forward(ctx, gate, up):
            ctx.save_for_backward(gate, up)
            return torch.nn.functional.silu(gate) * up

        @staticmethod
        def backward(ctx, grad):
            gate, up = ctx.saved_tensors
            return grad * up * gate.sigmoid(), grad * torch.nn.functional.silu(gate)

    functions = replace(plain(), silu=Leaning.apply)
    assert {one.what for one in found_in(adapted(make_model), functions)} == {
        "RMSNorm",
        "rotary embedding",
    }


@pytest.fixture
def on_a_card(monkeypatch):
    """SFTConfig's device as seen by the choice: a card, while all is computed on DEVICE."""
    monkeypatch.setattr(choice, "choose_varlen", lambda device, dtype: "Attention: A.")
    monkeypatch.setattr(choice, "choose_loss", lambda device, dtype, spec: f"Loss: {dtype}.")

    def run(model, spec=None, **settings):
        args = SFTConfig(output_dir="unused", use_cpu=True, report_to="none", **settings)
        monkeypatch.setattr(SFTConfig, "device", property(lambda self: torch.device("cuda")))
        monkeypatch.setattr(choice, "indexed", lambda device: DEVICE)
        said = []
        with choice.chosen_kernels(causal_lm(model), args, spec, True, said.append):
            replaced = norms_replaced(model)
        return said, replaced

    return run


def test_a_run_on_a_card_says_once_what_computes(make_model, on_a_card, monkeypatch):
    model = adapted(make_model)
    monkeypatch.setattr(choice, "load_liger", plain)
    monkeypatch.setattr(choice, "version", lambda name: "9.9")
    said, replaced = on_a_card(model, LossSpec(), bf16=False)
    assert said == [
        "Attention: A.",
        "Loss: torch.float32.",
        "Layers: RMSNorm, SwiGLU, rotary embedding by liger-kernel 9.9.",
    ]
    assert replaced == 5


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (ImportError("no liger_kernel"), "is not installed"),
        (RuntimeError("no kernel image\nfor this device"), "does not run here: no kernel image)."),
    ],
    ids=["missing", "old card"],
)
def test_without_liger_the_models_own_layers_train(
    make_model, on_a_card, monkeypatch, fault, words
):
    def absent():
        raise fault

    monkeypatch.setattr(choice, "load_liger", absent)
    said, replaced = on_a_card(adapted(make_model), bf16=False)
    assert words in said[-1] and said[-1].startswith("Layers: the model's own") and replaced == 0


def test_on_a_cpu_nothing_is_chosen_and_nothing_said(make_model):
    args = SFTConfig(output_dir="unused", use_cpu=True, report_to="none")
    said = []
    with choice.chosen_kernels(make_model(), args, LossSpec(), True, said.append):
        assert said == []


def test_torch_compile_and_weights_elsewhere_keep_the_models_own_layers(make_model, on_a_card):
    said, replaced = on_a_card(adapted(make_model), bf16=False, torch_compile=True)
    assert "compiled by torch" in said[-1] and replaced == 0
    model = adapted(make_model)
    causal_lm(model).lm_head.to("meta")
    said, replaced = on_a_card(model, bf16=False)
    assert "not all on this device" in said[-1] and replaced == 0
