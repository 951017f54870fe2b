"""The first layers of a model as a model of their own; families are compared elsewhere."""

import torch
import transformers

from trainer_backend.training.capabilities import probe_model
from trainer_backend.training.kernels.front import front_of
from trainer_backend.training.loss import LossSpec

SMALL = {
    "vocab_size": 120,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def llama(layers: int) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**SMALL, num_hidden_layers=layers)
    )


def layers_of(model) -> torch.nn.ModuleList:
    return next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))


def test_a_front_computes_what_a_model_of_so_many_layers_does():
    deep = llama(6).eval()
    short = llama(2).eval()
    short.load_state_dict(deep.state_dict(), strict=False)
    ids = torch.arange(3, 20)[None]
    assert torch.equal(front_of(deep)(input_ids=ids).logits, short(input_ids=ids).logits)


def test_there_is_none_where_a_layer_may_differ_unseen():
    shared = {"num_kv_shared_layers": 2, "head_dim": 8, "num_hidden_layers": 6}
    config = transformers.AutoConfig.for_model("gemma3_text", **{**SMALL, **shared})
    assert front_of(transformers.AutoModelForCausalLM.from_config(config)) is None
    short = llama(2)
    assert front_of(short) is None  # nothing is spared
    mixed = llama(6)
    layers_of(mixed)[5].self_attn.scaling *= 2
    assert front_of(mixed) is None
    last = llama(6)
    layers_of(last)[4].mlp.up_proj = torch.nn.Bilinear(2, 2, 2)
    assert len(layers_of(front_of(last))) == 5


def test_what_the_front_refuses_the_whole_model_decides(monkeypatch):
    model, asked = llama(6), []

    def apart(one):
        asked.append(len(layers_of(one)))
        return len(asked) == 2

    monkeypatch.setattr("trainer_backend.training.capabilities._keeps_apart", apart)
    assert probe_model(model, LossSpec()).packs
    assert asked == [2, 6]
