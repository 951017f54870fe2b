"""Packed rows in bf16 against one example at a time: losses and LoRA gradients by fp32's.

The packed way may add no error of its own. The limits are twice what one H200 showed; mixtral's
router chooses other experts in bf16, packed and alone alike.
"""

import pytest
import torch
from gpu_families import FAMILIES
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from trainer_backend.models.loaded.pretrained import keep_unpacked
from trainer_backend.tokens.collator import SFTCollator
from trainer_backend.training.capabilities import causal_lm, probe_model
from trainer_backend.training.kernels.attention import document_layout
from trainer_backend.training.kernels.lora import quicken_lora
from trainer_backend.training.loss import LossSpec, install_fused_head

pytestmark = pytest.mark.gpu

LENGTHS = {"cuda": (7, 130, 33, 257, 1, 500, 64, 65), "cpu": (7, 80, 3, 1, 16)}
LOSS, GRADIENT, ROUTED = 7e-4, 9e-2, 0.3  # largest relative errors in bf16


def sized(family: str, device: str) -> tuple[str, dict]:
    """Kind and settings of a family; narrower for a dry run on a CPU."""
    name, settings = FAMILIES[family]
    narrow = {"n_embd": 64} if name == "gpt2" else {"hidden_size": 64, "intermediate_size": 96}
    return name, settings if device == "cuda" else {**settings, **narrow}


def build(family: str, dtype: torch.dtype, device: str):
    """The family's model with weights that bf16 holds exactly, and an adapter whose B is not 0."""
    name, settings = sized(family, device)
    torch.manual_seed(0)
    how = "eager" if name == "gemma2" else "sdpa"
    config = AutoConfig.for_model(name, **settings)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=how)
    return adapted(model.to(torch.bfloat16).to(dtype).to(device))


def adapted(model):
    torch.manual_seed(1)
    config = LoraConfig(
        r=8,
        lora_alpha=16,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        init_lora_weights=False,
    )
    return get_peft_model(model, config).train()


def rows(device: str) -> list[dict]:
    random = torch.Generator().manual_seed(1)
    ids = [torch.randint(3, 1000, (n,), generator=random).tolist() for n in LENGTHS[device]]
    return [{"input_ids": row, "labels": [-100, -100, *row[2:]]} for row in ids if len(row) > 2] + [
        {"input_ids": row, "labels": row} for row in ids if len(row) <= 2
    ]


def gradients(model) -> torch.Tensor:
    found = [p.grad.float().flatten() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return torch.cat(found)


def alone(model, device: str, bf16: bool):
    """Summed loss of the rows one at a time, by the model's own logits, and its gradients."""
    total = 0.0
    for row in rows(device):
        ids, labels = (torch.tensor([row[k]], device=device) for k in ("input_ids", "labels"))
        if ids.shape[1] < 2:
            continue
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            own = causal_lm(model)
            logits = type(own).forward(own, input_ids=ids, use_cache=False).logits
        loss = cross_entropy(logits[0, :-1].float(), labels[0, 1:], reduction="sum")
        loss.backward()
        total += loss.item()
    return total, gradients(model)


def packed(model, device: str, on_device):
    """The same in one packed row, as the trainer computes it."""
    traits = probe_model(causal_lm(model), LossSpec())
    assert traits.packs and traits.spec is not None, traits
    quicken_lora(model)
    install_fused_head(causal_lm(model), traits.spec)
    batch = on_device(SFTCollator(0, padding_free=True)(rows(device)))
    lengths, labels = batch.pop("seq_lengths"), batch.pop("labels")
    with document_layout(lengths), torch.autocast(device, torch.bfloat16):
        out = model(**batch, labels=labels, fused_loss=True)
    out.loss.backward()
    return out.loss.item(), gradients(model)


@pytest.fixture
def without_tf32():
    """The reference is float32 in full."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_in_bf16_is_as_near_to_fp32_as_one_at_a_time(
    family, device, on_device, varlen_calls, without_tf32
):
    loss, wanted = alone(build(family, torch.float32, device), device, bf16=False)
    one_loss, one = alone(build(family, torch.bfloat16, device), device, bf16=True)
    got_loss, got = packed(build(family, torch.bfloat16, device), device, on_device)
    limit = ROUTED if family == "mixtral" else min(GRADIENT, 1.2 * apart(one, wanted) + 1e-3)
    assert abs(got_loss - loss) <= LOSS * loss and abs(one_loss - loss) <= LOSS * loss
    assert apart(got, wanted) <= limit
    if device == "cuda" and "softcap" not in family:
        assert len(varlen_calls) >= 3, "attention did not run in torch's varlen kernel"


def test_packed_on_a_base_in_four_bits_is_one_at_a_time(tmp_path, device, on_device):
    """QLoRA (arXiv 2305.14314): nf4 with double quantisation, products in bf16."""
    name, settings = sized("llama gqa", device)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **settings)).save_pretrained(
        tmp_path
    )
    four = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )

    def base(dtype: torch.dtype):
        model = AutoModelForCausalLM.from_pretrained(
            tmp_path, quantization_config=four, dtype=dtype, device_map={"": device}
        )
        keep_unpacked(model)
        return adapted(model)

    loss, wanted = alone(base(torch.bfloat16), device, bf16=True)
    got_loss, got = packed(base(torch.bfloat16), device, on_device)
    assert got_loss == pytest.approx(loss, rel=2 * LOSS)
    assert apart(got, wanted) <= GRADIENT
