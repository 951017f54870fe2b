"""Kernels for packed rows on CUDA: what they are called with, which one a card gets."""

from types import SimpleNamespace

import pytest
import torch

from trainer_backend.training.kernels import attention, varlen
from trainer_backend.training.kernels.varlen import TORCH, VarlenKernel

LENGTHS = (5, 12, 3, 9)
CPU = torch.device("cpu")


def written_out(q, k, v, cu_seqlens_q, cu_seqlens_k, max_q, max_k, *, softmax_scale=None,
                causal=False, window_size=(-1, -1), softcap=0.0):  # fmt: skip
    """flash-attn's signature, and a plain computation behind it."""
    assert causal and max_q == max_k and torch.equal(cu_seqlens_q, cu_seqlens_k)
    lengths = tuple(cu_seqlens_q.diff().tolist())
    q = q if softmax_scale is None else q * softmax_scale * q.shape[-1] ** 0.5
    return varlen.reference(q, k, v, lengths, window_size[0] + 1, softcap or None)


def without_softcap(q, k, v, cu_q, cu_k, max_q, max_k, *, causal, window_size=(-1, -1)):
    return written_out(q, k, v, cu_q, cu_k, max_q, max_k, causal=causal, window_size=window_size)


def leaky(q, k, v, cu_q, cu_k, max_q, max_k, *, causal, window_size=(-1, -1)):
    """Lets every document see the one before."""
    joined = torch.stack((cu_q[0], cu_q[-1]))
    return written_out(q, k, v, joined, joined, max_q, max_k, causal=causal)


def older(q, k, v, cu_q, cu_k, max_q, max_k, *, scale, window_size, return_aux=None):
    """varlen_attn of torch 2.11: no enable_gqa, grouped heads all the same."""
    return written_out(
        q, k, v, cu_q, cu_k, max_q, max_k,
        softmax_scale=scale, causal=True, window_size=window_size,
    )  # fmt: skip


def rows(dtype=torch.float32, key_heads=2):
    torch.manual_seed(0)
    shapes = ((1, sum(LENGTHS), heads, 8) for heads in (4, key_heads, key_heads))
    return [torch.randn(shape).to(dtype).transpose(1, 2).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("function", [written_out, older], ids=lambda f: f.__name__)
@pytest.mark.parametrize("window", [0, 4])
@pytest.mark.parametrize("scale", [None, 0.2])
def test_a_kernel_gets_the_arguments_it_knows_and_gives_the_same(
    monkeypatch, function, window, scale
):
    kernel = VarlenKernel("stand-in", function, softcaps=False)
    mask = torch.tensor([window, *LENGTHS], dtype=torch.int32)
    monkeypatch.setattr(attention, "_cuda_kernel", lambda *_: kernel)
    inputs = rows()
    found, _ = attention.per_document_attention(None, *inputs, mask, scaling=scale)
    monkeypatch.setattr(attention, "_cuda_kernel", lambda *_: None)
    expected, _ = attention.per_document_attention(None, *inputs, mask, scaling=scale)
    assert torch.allclose(found, expected, atol=1e-5)


def test_torchs_own_kernel_is_told_of_grouped_heads_where_it_has_to_be(monkeypatch):
    asked = []

    def newer(q, k, v, cu_q, cu_k, max_q, max_k, *, window_size, enable_gqa=False):
        asked.append(enable_gqa)
        return q

    for heads in (2, 4):
        q, k, v = (one[0].transpose(0, 1) for one in rows(key_heads=heads))
        starts = torch.tensor([0, sum(LENGTHS)], dtype=torch.int32)
        VarlenKernel("stand-in", newer, False)(q, k, v, starts, sum(LENGTHS), 0, None)
    assert asked == [True, False]
    assert {"window_size", "scale"} <= varlen._names(TORCH.function)  # torch 2.11: no enable_gqa


def test_the_layout_is_made_once_a_step_and_reaches_every_layer():
    with attention.document_layout(LENGTHS):
        mask = attention.per_document_mask(1, sum(LENGTHS))
        again = attention.per_document_mask(1, sum(LENGTHS))
    layout = attention._layout_of(mask)
    assert layout is attention._layout_of(again)
    assert layout.starts(CPU) is layout.starts(CPU)
    assert layout.starts(CPU).tolist() == [0, 5, 17, 20, 29]
    assert layout.starts(CPU).dtype == torch.int32
    copied = attention._layout_of(mask.clone())  # as a model does that moves its mask
    assert (copied.lengths, copied.window, copied.longest) == (LENGTHS, 0, 12)


@pytest.mark.parametrize(
    ("capability", "dtype", "runs"),
    [
        ((9, 0), torch.bfloat16, True),
        ((8, 0), torch.float16, True),
        ((7, 5), torch.float16, False),  # T4
        ((8, 9), torch.float32, False),
    ],
)
def test_old_cards_and_full_precision_attend_document_by_document(
    monkeypatch, capability, dtype, runs
):
    monkeypatch.setattr(varlen, "_capability", lambda device: capability)
    device = torch.device("cuda", 0)
    monkeypatch.setattr(varlen, "installed_kernels", lambda capability: [])
    assert (varlen.kernel_for(device, dtype, 64, None) is TORCH) == runs
    assert varlen.kernel_for(device, dtype, 64, 30.0) is None  # torch's has no soft cap
    assert varlen.kernel_for(device, dtype, 264, None) is None
    assert varlen.kernel_for(device, dtype, 60, None) is None
    sentence = varlen.choose_varlen(device, dtype)
    assert ("one document after the other" in sentence) != runs
    assert runs or f"{capability[0]}.{capability[1]} in" in sentence


def packages(**functions):
    def find(name):
        if name not in functions:
            raise ModuleNotFoundError(name)
        return SimpleNamespace(flash_attn_varlen_func=functions[name])

    return find


def test_flash_attn_is_taken_where_it_is_installed_and_the_card_is_made_for_it():
    both = packages(flash_attn_interface=without_softcap, flash_attn=written_out)
    names = {
        card: [one.name for one in varlen.installed_kernels(card, both)]
        for card in ((9, 0), (8, 6), (7, 5), (10, 0))
    }
    assert names[9, 0] == ["flash-attn 3", "flash-attn 2"]
    assert names[8, 6] == names[10, 0] == ["flash-attn 2"]
    assert names[7, 5] == []
    assert [one.softcaps for one in varlen.installed_kernels((9, 0), both)] == [False, True]
    assert varlen.installed_kernels((9, 0), packages()) == []


def test_a_package_is_used_only_if_values_and_gradients_agree(monkeypatch):
    device = torch.device("cpu")
    monkeypatch.setattr(varlen, "_capability", lambda device: (9, 0))
    monkeypatch.setattr(varlen, "_chosen", {})
    broken, right = (
        VarlenKernel("flash-attn 3", leaky, False),
        VarlenKernel("flash-attn 2", written_out, True),
    )
    monkeypatch.setattr(varlen, "installed_kernels", lambda capability: [broken, right])
    assert varlen.choose_varlen(device, torch.bfloat16) == "Attention: flash-attn 2."
    assert varlen.kernel_for(device, torch.bfloat16, 64, 30.0) is right
    monkeypatch.setattr(varlen, "installed_kernels", lambda capability: [broken])
    sentence = varlen.choose_varlen(device, torch.bfloat16)
    assert sentence.startswith("Attention: torch's") and "flash-attn 3" in sentence
    assert varlen.kernel_for(device, torch.bfloat16, 64, None) is TORCH


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_on_this_card_every_kernel_that_is_chosen_agrees(dtype):
    device = torch.device("cuda", 0)
    card = varlen._capability(device)
    if not varlen.runs_on(card, dtype):
        pytest.skip(f"compute capability {card} has no variable-length attention")
    assert varlen.agrees(TORCH, device, dtype)
    assert varlen.choose_varlen(device, dtype).startswith("Attention: ")
