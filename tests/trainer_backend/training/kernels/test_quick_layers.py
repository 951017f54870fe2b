"""The quick CPU attention gives what the ordinary one gives."""

import pytest
import torch

from trainer_backend.training.kernels import attention, cpu_attention

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
