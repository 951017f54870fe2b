"""The quick CPU attention and the quick LoRA layer give what the ordinary ones give."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from trainer_backend.training.kernels import attention, cpu_attention
from trainer_backend.training.kernels.lora import quicken_lora

LENGTHS = (5, 12, 3, 9)


def attend(dtype, key_heads, window, quick, monkeypatch):
    torch.manual_seed(0)
    shapes = ((1, sum(LENGTHS), heads, 8) for heads in (4, key_heads, key_heads))
    made = [torch.randn(shape).to(dtype).transpose(1, 2).requires_grad_() for shape in shapes]
    mask = torch.tensor([window, *LENGTHS], dtype=torch.int32)
    with monkeypatch.context() as patch:
        if not quick:
            patch.setattr(attention, "_same_width", lambda query, value: False)
        out, _ = attention.per_document_attention(None, *made, mask)
    gradients = torch.autograd.grad(out.float().square().sum(), made)
    return [out, *gradients]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("key_heads", [4, 2, 1])
@pytest.mark.parametrize("window", [0, 4])
@pytest.mark.parametrize("longest", [1024, 6])
def test_quick_attention(monkeypatch, dtype, key_heads, window, longest):
    monkeypatch.setattr(cpu_attention, "LONGEST_DENSE", longest)
    quick = attend(dtype, key_heads, window, True, monkeypatch)
    plain = attend(dtype, key_heads, window, False, monkeypatch)
    close = 1e-5 if dtype == torch.float32 else 5e-2
    for a, b in zip(quick, plain, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert (a - b).abs().max() <= close * b.abs().max()


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_autocast_reaches_attention_as_it_reaches_sdpa(softcap):
    rows = torch.randn(1, 2, 3, 8)
    mask = torch.tensor([0, 3], dtype=torch.int32)
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = attention.per_document_attention(None, rows, rows, rows, mask, softcap=softcap)
    assert out.dtype == torch.bfloat16


def test_attention_sinks_are_refused_so_that_no_such_model_is_packed():
    rows = torch.zeros(1, 2, 3, 8)
    mask = torch.tensor([0, 3], dtype=torch.int32)
    with pytest.raises(ValueError, match="attention sinks"):
        attention.per_document_attention(None, rows, rows, rows, mask, s_aux=torch.zeros(2))


def adapted(make_model, **settings):
    torch.manual_seed(3)
    usual = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    config = LoraConfig(**{**usual, "init_lora_weights": False, **settings})
    return get_peft_model(make_model(), config).train()


def step(model, autocast: bool):
    torch.manual_seed(1)
    ids = torch.arange(4, 44)[None]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return loss.detach(), torch.cat(grads)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("autocast", [False, True])
def test_quick_lora(make_model, dropout, autocast):
    plain, quick = (adapted(make_model, lora_dropout=dropout) for _ in range(2))
    assert len(quicken_lora(quick).layers) == 14
    (loss, grads), (expected, wanted) = step(quick, autocast), step(plain, autocast)
    close = 1e-5 if not autocast else 5e-2
    assert torch.allclose(loss, expected, rtol=close)
    assert (grads - wanted).norm() <= close * wanted.norm()


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"lora_bias": True}], ids=str)
def test_other_layers_go_pefts_way(make_model, settings):
    if "lora_bias" in settings:
        model = adapted(
            lambda: make_model(attention_bias=True), target_modules=["q_proj"], **settings
        )
    else:
        model = adapted(make_model, **settings)
    assert quicken_lora(model).layers == []


def test_a_switched_off_adapter_is_off_and_evaluation_is_pefts(make_model):
    model = adapted(make_model)
    ids = torch.arange(4, 20)[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits
    quicken_lora(model)
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, before)
    with model.disable_adapter():
        off = model(input_ids=ids).logits
    assert torch.allclose(off, make_model()(input_ids=ids).logits, atol=1e-6)
