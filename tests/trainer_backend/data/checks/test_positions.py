"""How many positions a model has, by its settings alone; the models themselves are asked too."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BioGptConfig,
    BloomConfig,
    CodeGenConfig,
    FalconConfig,
    GPT2Config,
    GPTBigCodeConfig,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MptConfig,
    OPTConfig,
    Qwen2VLConfig,
    RobertaConfig,
    XGLMConfig,
)

from trainer_backend.data.checks.positions import Positions, positions_of

SMALL = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
N = {"vocab_size": 50, "n_positions": 20, "n_embd": 16, "n_layer": 1, "n_head": 2}
MAX = {"max_position_embeddings": 20}
FIXED = {
    "gpt2": GPT2Config(**N),
    "gpt_bigcode": GPTBigCodeConfig(**N),
    "gptj": GPTJConfig(**N, rotary_dim=4),
    "codegen": CodeGenConfig(**{**N, "n_head": 4}, rotary_dim=4),
    "gpt_neo": GPTNeoConfig(
        **MAX,
        vocab_size=50,
        hidden_size=16,
        num_layers=1,
        num_heads=2,
        attention_types=[[["global"], 1]],
    ),
    "opt": OPTConfig(**SMALL, **MAX, ffn_dim=16, word_embed_proj_dim=16),
    "biogpt": BioGptConfig(**SMALL, **MAX, intermediate_size=16),
    "bert": BertConfig(**SMALL, **MAX, intermediate_size=16, is_decoder=True),
    "roberta": RobertaConfig(
        **SMALL, intermediate_size=16, is_decoder=True, max_position_embeddings=22, pad_token_id=1
    ),
    "mpt": MptConfig(d_model=16, n_heads=2, n_layers=1, vocab_size=50, max_seq_len=20),
}


@pytest.mark.parametrize("kind", FIXED)
def test_a_table_ends_where_the_model_fails(kind):
    config = FIXED[kind]
    assert positions_of(config.to_dict()) == Positions(20, True)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        model(input_ids=torch.full((1, 20), 7), use_cache=False)
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, 21), 7), use_cache=False)


def test_computed_positions_were_trained_to_a_length():
    assert positions_of(LlamaConfig(**MAX).to_dict()) == Positions(20, False)
    assert positions_of(GPTNeoXConfig(**MAX).to_dict()) == Positions(20, False)
    assert positions_of(FalconConfig(**MAX).to_dict()) == Positions(20, False)
    assert positions_of(Qwen2VLConfig().to_dict()).most == 32768
    plain = {"model_type": "llama", "max_position_embeddings": 4096, "rope_theta": 1e4}
    assert positions_of(plain) == Positions(4096, False)
    linear = {**plain, "rope_scaling": {"type": "linear", "factor": 4.0}}
    assert positions_of(linear) == Positions(16384, False)
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}
    assert positions_of({**plain, "rope_parameters": yarn}) == Positions(8192, False)
    long = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}
    known = {"model_type": "llama", "max_position_embeddings": 131072, "rope_scaling": long}
    assert positions_of(known) == Positions(131072, False)


@pytest.mark.parametrize(
    "config",
    [
        BloomConfig().to_dict(),
        FalconConfig(alibi=True).to_dict(),
        XGLMConfig().to_dict(),
        {},
        {"model_type": "gpt2"},
        {"model_type": "llama", "max_position_embeddings": "many", "rope_theta": 1.0},
        {"model_type": "unheard_of", "max_position_embeddings": 64},
    ],
)
def test_nothing_is_said_where_nothing_is_known(config):
    assert positions_of(config) is None


def test_what_is_said_names_the_number_and_the_setting():
    fixed, trained = Positions(64, True).finding(), Positions(128, False).finding()
    assert (fixed.code, fixed.severity) == ("no_positions", "error") and "64" in fixed.what
    assert (trained.code, trained.severity) == ("beyond_trained", "warning")
    assert "128" in trained.what and "Maximum length" in trained.fix + fixed.fix
