"""Twelve families of models with the shapes of attention that CUDA kernels tell apart."""

from typing import Any

SHAPE: dict[str, Any] = {
    "vocab_size": 1000,
    "hidden_size": 512,
    "intermediate_size": 768,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.05,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {
    "vocab_size": 1000,
    "n_embd": 512,
    "n_layer": 3,
    "n_head": 8,
    "n_positions": 2048,
    "initializer_range": 0.05,
    "attn_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "resid_pdrop": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOW = {"sliding_window": 64}
GEMMA = {"head_dim": 256}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama gqa": ("llama", SHAPE),
    "llama mha": ("llama", {**SHAPE, "num_key_value_heads": 8}),
    "llama gqa head 128": ("llama", {**SHAPE, "head_dim": 128, "num_attention_heads": 4}),
    "mistral window": ("mistral", {**SHAPE, **WINDOW}),
    "phi3 window": ("phi3", {**SHAPE, **WINDOW, "embd_pdrop": 0.0, "resid_pdrop": 0.0}),
    "qwen2 bias": ("qwen2", SHAPE),
    "qwen3 head 128": ("qwen3", {**SHAPE, "head_dim": 128}),
    "gemma head 256": ("gemma", {**SHAPE, **GEMMA}),
    "gemma2 softcap": ("gemma2", {**SHAPE, **GEMMA, **WINDOW, "query_pre_attn_scalar": 256}),
    "gemma3 window": (
        "gemma3_text",
        {
            **SHAPE,
            **GEMMA,
            **WINDOW,
            "query_pre_attn_scalar": 256,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "gpt2": ("gpt2", GPT2),
    "mixtral": ("mixtral", {**SHAPE, "num_local_experts": 4, "intermediate_size": 256}),
}
