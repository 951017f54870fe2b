"""Packed rows give the loss and gradients of one example at a time, or a model is not packed.

Which of the two is the probe's answer: a newer transformers may teach a family to pack. What packs
already has to go on doing so, or training would silently become slower.
"""

# ruff: noqa: E501 - a tiny config reads best as one line

import copy

import pytest
import torch
import transformers
from mixing_model import mixing_model
from transformers import AutoModelForCausalLM

from trainer_backend.tokens.collator import SFTCollator
from trainer_backend.training.capabilities import probe_model, takes_whole_mask
from trainer_backend.training.kernels.attention import PER_DOCUMENT, document_layout
from trainer_backend.training.kernels.front import front_of
from trainer_backend.training.loss import LossSpec, install_fused_head

SMALL = {
    "vocab_size": 120,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT = {"vocab_size": 120, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.3,
       "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
NO_DROP = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "dropout": 0.0}
PACKS = {
    "llama": SMALL,
    "mistral": {**SMALL, "sliding_window": 5},
    "gemma": {**SMALL, "head_dim": 8},
    "gemma2": {**SMALL, "head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8},
    "gemma3_text": {**SMALL, "head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 8,
                    "layer_types": ["sliding_attention", "full_attention"]},
    "phi": {**SMALL, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    "phi3": {**SMALL, "sliding_window": 5, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    "qwen2": SMALL,
    "qwen3": {**SMALL, "head_dim": 8},
    "gpt2": GPT,
    "gpt_neox": {**SMALL, **NO_DROP},
    "opt": {**SMALL, "ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.3, **NO_DROP},
    "cohere": {**SMALL, "logit_scale": 0.25},
    "granite": {**SMALL, "logits_scaling": 4.0},
    "smollm3": SMALL,
    "olmo2": SMALL,
    "mixtral": {**SMALL, "num_local_experts": 4, "output_router_logits": True},
    "qwen2_moe": {**SMALL, "num_experts": 4, "moe_intermediate_size": 16, "decoder_sparse_step": 1,
                  "shared_expert_intermediate_size": 16, "num_experts_per_tok": 2},
}  # fmt: skip
MAY_PACK = {
    "mamba": {"vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "initializer_range": 0.3},
    "falcon": {**SMALL, "alibi": False, **NO_DROP},
    "falcon_alibi": {**SMALL, "alibi": True, **NO_DROP},
    "bloom": {"vocab_size": 120, "hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3},
    "jamba": {**SMALL, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
}  # fmt: skip
FAMILIES = {**PACKS, **MAY_PACK}
LENGTHS = (7, 13, 3, 9)
EAGER = {"attn_implementation": "eager"}


def build(family: str, settings: dict, **how):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family.removesuffix("_alibi"), **settings)
    return AutoModelForCausalLM.from_config(config, **how).train()


def rows(vocabulary: int, lengths: tuple[int, ...] = LENGTHS) -> list[dict]:
    random = torch.Generator().manual_seed(1)
    ids = [torch.randint(3, vocabulary, (n,), generator=random).tolist() for n in lengths]
    return [{"input_ids": row, "labels": [-100, -100, *row[2:]]} for row in ids]


def plain(model, row: dict):
    """Summed loss of one example by the model's own logits."""
    ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
    logits = type(model).forward(model, input_ids=ids, use_cache=False).logits.float()
    return torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], reduction="sum")


def gradients(model) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def expect_packed_equals_alone(model, traits, itself):
    data = rows(120)
    alone = sum(plain(itself, row) for row in data)
    alone.backward()
    expected = gradients(itself)

    assert traits.spec is not None, "the fused loss was refused"
    install_fused_head(model, traits.spec)
    batch = SFTCollator(0, padding_free=True)(data)
    lengths, labels = batch.pop("seq_lengths"), batch.pop("labels")
    with document_layout(lengths):
        packed = model(**batch, labels=labels, fused_loss=True)
    packed.loss.backward()
    found = gradients(model)

    assert torch.allclose(packed.loss, alone, rtol=1e-5, atol=1e-5)
    assert int(packed.trained) == sum(n - 2 for n in LENGTHS)
    assert found.keys() == expected.keys()
    for name in expected:
        scale = expected[name].abs().max().clamp(min=1)
        assert (found[name] - expected[name]).abs().max() <= 1e-5 * scale, name


@pytest.mark.parametrize("family", PACKS)
def test_packed_equals_one_at_a_time(family):
    model = build(family, PACKS[family])
    traits = probe_model(model, LossSpec())
    assert traits.packs, family
    assert takes_whole_mask(model)
    assert model.config._attn_implementation == PER_DOCUMENT
    expect_packed_equals_alone(model, traits, build(family, PACKS[family], **EAGER))


@pytest.mark.parametrize("family", MAY_PACK)
def test_packed_equals_one_at_a_time_or_the_model_is_left_as_it_was(family):
    model = build(family, MAY_PACK[family])
    before = model.config._attn_implementation
    traits = probe_model(model, LossSpec())
    assert model.training
    if not traits.packs:
        assert type(model).__name__ in traits.why_not
        assert model.config._attn_implementation == before
        return
    expect_packed_equals_alone(model, traits, build(family, MAY_PACK[family], **EAGER))


@pytest.mark.parametrize("family", ["llama", "falcon", "falcon_alibi"])
def test_an_example_far_along_the_row_is_packed_exactly_or_not_at_all(family):
    """ALiBi is exact only near the start of a row, so a short row alone proves nothing."""
    lengths = (400, 100, 30)
    model = build(family, {**FAMILIES[family], "max_position_embeddings": 512}).eval()
    if not probe_model(model, LossSpec()).packs:
        return
    data = rows(120, lengths)
    parts = [torch.tensor([row["input_ids"]]) for row in data]
    alone = torch.cat([model(input_ids=ids, use_cache=False).logits for ids in parts], dim=1)
    batch = SFTCollator(0, padding_free=True)(data)
    del batch["labels"]
    with document_layout(batch.pop("seq_lengths")):
        packed = model(**batch, use_cache=False).logits
    assert (packed - alone).abs().max() <= 1e-5 * alone.abs().max()


def test_a_model_that_mixes_examples_is_never_packed():
    model = mixing_model()
    before = model.config._attn_implementation
    traits = probe_model(model, LossSpec())
    assert not traits.packs
    assert type(model).__name__ in traits.why_not
    assert model.config._attn_implementation == before
    assert model.training


DEEP = {
    **{name: {**sizes, "num_hidden_layers": 6} for name, sizes in FAMILIES.items()},
    "deepseek_v3": {**SMALL, "num_hidden_layers": 6, "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 1,
                    "topk_group": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "q_lora_rank": 8,
                    "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8,
                    "first_k_dense_replace": 2},
    "gpt_oss": {**SMALL, "num_hidden_layers": 6, "head_dim": 8, "num_local_experts": 4, "sliding_window": 5},
    "qwen3_next": {**SMALL, "num_hidden_layers": 8, "head_dim": 8, "num_experts": 4, "moe_intermediate_size": 16,
                   "shared_expert_intermediate_size": 16, "linear_num_value_heads": 2, "linear_num_key_heads": 2,
                   "linear_key_head_dim": 8, "linear_value_head_dim": 8, "num_experts_per_tok": 2},
}  # fmt: skip
DEEP["gpt2"] = {**FAMILIES["gpt2"], "n_layer": 6}
DEEP["bloom"] = {**FAMILIES["bloom"], "n_layer": 6}
DEEP["gemma3_text"] = {**DEEP["gemma3_text"], "layer_types": [*["sliding_attention"] * 3, "full_attention"] * 2,
                       "num_hidden_layers": 8}  # fmt: skip
LAYERS = {
    "gemma2": 2,
    "gemma3_text": 4,
    "llama": 2,
    "smollm3": 4,
    "deepseek_v3": 3,
    "qwen3_next": 4,
}
WHOLE = {"mixtral"}  # its layers' router logits are recorded by hooks


def layers_of(model) -> torch.nn.ModuleList:
    return next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))


@pytest.mark.parametrize("family", DEEP)
def test_the_front_decides_as_the_whole_model(family, monkeypatch):
    model, alike = (build(family, copy.deepcopy(DEEP[family])) for _ in range(2))
    modules, config = dict(model.named_modules()), model.config.to_dict()
    front = front_of(model)
    assert (front is None) == (family in WHOLE)
    if front is not None:
        assert type(front) is type(model) and front is not model
        assert len(layers_of(front)) == LAYERS.get(family, 2) or family not in LAYERS
        assert {id(p) for p in front.parameters()} < {id(p) for p in model.parameters()}
    found = probe_model(model, LossSpec())
    after = dict(model.named_modules())
    assert modules.keys() == after.keys()
    assert all(one is after[name] for name, one in modules.items())
    switched = {key: value for key, value in model.config.to_dict().items() if value != config[key]}
    assert switched.keys() <= {"_attn_implementation", "attn_implementation"}

    monkeypatch.setattr("trainer_backend.training.capabilities.front_of", lambda _: None)
    assert probe_model(alike, LossSpec()) == found
    assert alike.config._attn_implementation == model.config._attn_implementation
