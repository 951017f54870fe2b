"""Windows and soft-capping over long documents: the same results, memory linear in the length."""

import pytest
import torch

from trainer_backend.training.kernels import attention, cpu_attention, shared_attention

LENGTHS = (5, 37, 3, 20)


def attend(dtype, key_heads, window, softcap=None):
    torch.manual_seed(0)
    shapes = ((1, sum(LENGTHS), heads, 8) for heads in (4, key_heads, key_heads))
    made = [torch.randn(shape).to(dtype).transpose(1, 2).requires_grad_() for shape in shapes]
    mask = torch.tensor([window, *LENGTHS], dtype=torch.int32)
    out, _ = attention.per_document_attention(None, *made, mask, softcap=softcap)
    return [out, *torch.autograd.grad(out.float().square().sum(), made)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize(("window", "softcap"), [(6, None), (6, 5.0), (0, 5.0)])
def test_blocks_of_queries_give_what_whole_documents_give(
    monkeypatch, dtype, key_heads, window, softcap
):
    whole = attend(dtype, key_heads, window, softcap)
    monkeypatch.setattr(cpu_attention, "BLOCK", 4)
    monkeypatch.setattr(shared_attention, "BLOCK", 4)
    monkeypatch.setattr(attention, "LONGEST_WHOLE", 8)
    close = 1e-5 if dtype == torch.float32 else 5e-2
    for a, b in zip(attend(dtype, key_heads, window, softcap), whole, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert (a - b).abs().max() <= close * b.abs().max()


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_a_long_document_never_has_all_its_weights_at_once(monkeypatch, softcap):
    largest = []
    usual = torch.softmax

    def watched(scores, *args, **kwargs):
        largest.append(scores.shape[-1] * scores.shape[-2])
        return usual(scores, *args, **kwargs)

    monkeypatch.setattr(torch, "softmax", watched)
    rows = torch.randn(1, 1, 9000, 8, requires_grad=True)
    mask = torch.tensor([64, 9000], dtype=torch.int32)
    out, _ = attention.per_document_attention(None, rows, rows, rows, mask, softcap=softcap)
    out.sum().backward()
    assert largest and max(largest) <= 1024 * (1024 + 64)
    assert rows.grad is not None
