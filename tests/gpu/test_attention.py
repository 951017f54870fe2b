"""Attention of packed documents on a CUDA device: the varlen kernel and what stands in for it."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from trainer_backend.training.kernels import attention

pytestmark = pytest.mark.gpu

LENGTHS = (5, 120, 1, 33)
DTYPES = [torch.bfloat16, torch.float16, torch.float32]


def made(device: str, dtype: torch.dtype, width: int, key_heads: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    shapes = [(1, heads, sum(LENGTHS), width) for heads in (4, key_heads, key_heads)]
    tensors = [torch.randn(shape, generator=random) for shape in shapes]
    return [one.to(device, dtype).requires_grad_() for one in tensors]


def reference(tensors: list[torch.Tensor], window: int) -> list[torch.Tensor]:
    """Each document alone in float32 under a written-out mask: output and gradients."""
    given = [one.detach().float().requires_grad_() for one in tensors]
    query, key, value = (one.repeat_interleave(4 // one.shape[1], 1) for one in given)
    parts, start = [], 0
    for length in LENGTHS:
        rows = slice(start, start + length)
        seen = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
        seen = seen & ~seen.tril(-window) if window else seen
        q, k, v = query[:, :, rows], key[:, :, rows], value[:, :, rows]
        parts.append(scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2))
        start += length
    out = torch.cat(parts, dim=1)
    return [out, *torch.autograd.grad(out.square().sum(), given)]


def close(found: list[torch.Tensor], wanted: list[torch.Tensor], dtype: torch.dtype) -> None:
    limit = {torch.float32: 1e-5, torch.float16: 4e-3}.get(dtype, 2e-2)
    for a, b in zip(found, wanted, strict=True):
        assert (a.float() - b).norm() <= limit * b.norm()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [64, 128, 256, 36], ids="width {}".format)
@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize("window", [0, 16])
def test_documents_of_a_row_attend_only_within_themselves(
    device, varlen_calls, dtype, width, key_heads, window
):
    tensors = made(device, dtype, width, key_heads)
    mask = torch.tensor([window, *LENGTHS], dtype=torch.int32)
    out, _ = attention.per_document_attention(None, *tensors, mask)
    found = [out, *torch.autograd.grad(out.float().square().sum(), tensors)]
    close(found, reference(tensors, window), dtype)
    in_kernel = device == "cuda" and dtype != torch.float32 and width % 8 == 0
    assert bool(varlen_calls) is in_kernel


def test_dropout_goes_through_sdpa_document_by_document(device):
    tensors = made(device, torch.bfloat16, 64, 2)
    mask = torch.tensor([0, *LENGTHS], dtype=torch.int32)
    torch.manual_seed(0)
    out, _ = attention.per_document_attention(None, *tensors, mask, dropout=0.5)
    plain, _ = attention.per_document_attention(None, *tensors, mask)
    assert out.shape == plain.shape and out.isfinite().all()
    assert not torch.equal(out, plain)


def test_soft_capping_is_written_out(device):
    tensors = made(device, torch.float32, 64, 2)
    mask = torch.tensor([0, *LENGTHS], dtype=torch.int32)
    capped, _ = attention.per_document_attention(None, *tensors, mask, softcap=1e4)
    close([capped], reference(tensors, 0)[:1], torch.float32)  # so high a cap changes nothing
    low, _ = attention.per_document_attention(None, *tensors, mask, softcap=0.5)
    assert not torch.allclose(low, capped, rtol=1e-2)


def test_autocast_decides_the_format_of_the_kernel(device):
    tensors = made(device, torch.float32, 64, 2)
    mask = torch.tensor([0, *LENGTHS], dtype=torch.int32)
    with torch.autocast(device, torch.bfloat16):
        out, _ = attention.per_document_attention(None, *tensors, mask)
    assert out.dtype == torch.bfloat16
    close([out], reference(tensors, 0)[:1], torch.bfloat16)
