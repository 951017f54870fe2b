"""The sizes of a model, read from its config.json; no weights are opened for it.

Names of sizes differ by family: GPT-2 calls the width n_embd. What a run allocates is not known
here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ALIASES = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model", "dim", "model_dim"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv"),
    "intermediate": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff"),
    "vocabulary": ("vocab_size", "padded_vocab_size"),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
    "chosen": ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"),
    "expert_width": (
        *("moe_intermediate_size", "expert_intermediate_size", "expert_ffn_hidden_size"),
    ),
    "sparse_step": ("expert_layer_period", "decoder_sparse_step", "interleave_moe_layer_step"),
}
# multi-layer perceptrons of two matrices; all other families have a gate beside them
PLAIN_MLP = (
    *("gpt2", "gpt_neox", "gpt_neo", "gptj", "opt", "bloom", "falcon", "phi", "gpt_bigcode"),
    *("starcoder2", "mpt", "codegen", "persimmon", "nemotron", "xglm", "biogpt", "arcee"),
    *("apertus", "jais2", "nanochat", "gpt_neox_japanese"),
)
UNTIED = (
    *("llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "phi", "phi3"),
    *("gpt_neox", "gptj", "stablelm", "olmo", "olmo2", "olmoe", "granite", "starcoder2", "mpt"),
    *("deepseek_v2", "deepseek_v3", "persimmon", "nemotron", "smollm3", "glm", "glm4", "gpt_oss"),
)
FUSED_QKV = {
    **dict.fromkeys(("gpt_neox", "falcon", "bloom", "persimmon"), "query_key_value"),
    **dict.fromkeys(("gpt2", "gpt_bigcode"), "c_attn"),
    **{"phi3": "qkv_proj", "mpt": "Wqkv", "codegen": "qkv_proj"},
}
OUTPUTS = {
    **dict.fromkeys(("gpt_neox", "falcon", "bloom", "phi", "persimmon"), "dense"),
    **dict.fromkeys(("gpt2", "gpt_bigcode"), "attn.c_proj"),
    **dict.fromkeys(("opt", "gpt_neo", "mpt"), "out_proj"),
}
MLP_NAMES = {
    **dict.fromkeys(
        ("gpt_neox", "falcon", "bloom", "persimmon"), ("dense_h_to_4h", "dense_4h_to_h")
    ),
    **dict.fromkeys(("gpt2", "gpt_bigcode", "starcoder2"), ("c_fc", "mlp.c_proj")),
    **dict.fromkeys(("phi", "opt"), ("fc1", "fc2")),
    **dict.fromkeys(("gptj", "codegen"), ("fc_in", "fc_out")),
    "nemotron": ("up_proj", "down_proj"),
}
STATE_SPACE = ("mamba", "mamba2", "falcon_mamba", "rwkv", "jamba", "bamba", "zamba", "zamba2")
# families that cannot keep packed examples apart: their batches are padded
PADDED = (*STATE_SPACE, "bloom", "mpt", "gpt_oss", "gpt_neo", "recurrent_gemma")
# activations written out in several operations, each of which keeps its input
WRITTEN_OUT = ("gelu_new", "gelu_fast", "quick_gelu", "gelu_python", "gelu_pytorch_tanh_python")
LIMIT = 2**40  # of any product of sizes: what is larger is no model


@dataclass(frozen=True)
class Shape:
    """Sizes of a causal language model. Counts of parameters include every layer once."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    body: int  # parameters of the decoder layers (of experts: all of them)
    active: int  # of these: used for one token (less than `body` with experts)
    embedding: int  # parameters of the embedding and of a head with weights of its own
    tied: bool  # the head shares the weights of the embedding
    linear: tuple[tuple[str, int, int], ...]  # (name, in, out) of one layer's linear modules
    other: int = 0  # parameters of a vision tower
    gated: bool = True  # the multi-layer perceptron has a gate
    written_out: bool = False  # its activation function keeps several copies of its input
    attends_in_full: bool = False  # attention weights are kept: soft-capped, or with dropout
    transposed: bool = False  # linear modules of GPT-2's kind, whose adapters work in float32
    packs: bool = True  # packed examples are kept apart
    chosen_width: int = 0  # intermediate width of all experts that a token uses (0: no experts)

    @property
    def parameters(self) -> int:
        return self.body + self.embedding + self.other


def shape_of(config: Mapping[str, Any], parameters: int | None = None) -> Shape | None:
    """The shape that a config.json describes; None where its sizes are missing or absurd.

    `parameters`, counted in the weight files, replace the sum that follows from the sizes.
    """
    text = text_config(config)
    family = str(text.get("model_type") or config.get("model_type") or "").lower()
    family = family.removesuffix("_text")
    sizes = _sizes(text, family)
    if sizes is None:
        return None
    shape = _shape(text, config, family, sizes)
    if parameters is None:
        return shape
    return _counted(shape, parameters, "vision_config" in config)


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config.json about the language model (vision models nest it)."""
    for name in ("text_config", "llm_config", "language_config"):
        inner = config.get(name)
        if isinstance(inner, Mapping):
            outer = {k: v for k, v in config.items() if k in ("tie_word_embeddings", "vocab_size")}
            return {**outer, **inner}
    return config


def number(config: Mapping[str, Any], name: str) -> int | None:
    """A size by our name for it; None where it is missing or no positive whole number."""
    for alias in ALIASES.get(name, (name,)):
        value = config.get(alias)
        if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
            numbers = [one for one in value if isinstance(one, int)]
            value = max(numbers, default=None)  # one for each layer
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < LIMIT:
            return value
    return None


@dataclass(frozen=True)
class _Sizes:
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int


def _sizes(text: Mapping[str, Any], family: str) -> _Sizes | None:
    layers, hidden = number(text, "layers"), number(text, "hidden")
    vocabulary = number(text, "vocabulary")
    if layers is None or hidden is None or vocabulary is None:
        return None
    if layers * hidden * hidden > LIMIT or vocabulary * hidden > LIMIT:
        return None
    if family in STATE_SPACE and number(text, "heads") is None or family == "mamba2":
        inner = number(text, "intermediate") or hidden * (number(text, "expand") or 2)
        return _Sizes(layers, hidden, inner, 0, 0, 0, vocabulary)
    heads = number(text, "heads") or max(1, hidden // 64)
    kv_heads = number(text, "kv_heads") or heads
    if text.get("multi_query") and not text.get("new_decoder_architecture"):
        kv_heads = 1
    elif family == "falcon" and not text.get("new_decoder_architecture"):
        kv_heads = 1 if text.get("multi_query", True) else heads
    intermediate = number(text, "intermediate") or 4 * hidden
    if text.get("block_auto_adjust_ff_dim"):  # LFM2 states the width of an ungated one
        intermediate = 2 * intermediate // 3
    head_dim = number(text, "head_dim") or max(1, hidden // heads)
    return _Sizes(layers, hidden, intermediate, heads, kv_heads, head_dim, vocabulary)


def _shape(text: Mapping[str, Any], config: Mapping[str, Any], family: str, sizes: _Sizes) -> Shape:
    gated = family not in PLAIN_MLP
    attention, mlp = _attention(text, family, sizes), _mlp(family, sizes, gated)
    experts, chosen = number(text, "experts") or 0, number(text, "chosen") or 1
    if text.get("is_moe") is False:
        experts = 0
    body = active = sizes.layers * (_weights(attention + mlp) + 2 * sizes.hidden)
    linear, chosen_width = attention + mlp, 0
    if experts > 1:
        width = number(text, "expert_width") or sizes.intermediate
        each, dense = (3 if gated else 2) * sizes.hidden * width, _dense_layers(text, sizes)
        shared = _shared_width(text, width)
        always = _weights(attention) + 3 * sizes.hidden * shared + sizes.hidden * experts
        routed = sizes.layers - dense
        body = routed * (always + experts * each) + dense * _weights(attention + mlp)
        active = routed * (always + chosen * each) + dense * _weights(attention + mlp)
        linear, chosen_width = attention, chosen * width + shared
    tied = _tied(text, config, family)
    rows = sizes.vocabulary * sizes.hidden
    activation = text.get("hidden_activation") or text.get("hidden_act")
    activation = activation or text.get("activation_function") or ""
    return Shape(
        **vars(sizes),
        body=body,
        active=active,
        embedding=(rows if tied else 2 * rows) + _layer_embeddings(text, sizes),
        tied=tied,
        linear=linear,
        gated=gated,
        written_out=str(activation) in WRITTEN_OUT or family == "gpt2" and not activation,
        attends_in_full=bool(text.get("attn_logit_softcapping")) or _drops_attention(text, family),
        transposed=family in ("gpt2", "imagegpt", "openai-gpt"),
        packs=family not in PADDED and not text.get("alibi") and bool(sizes.heads),
        chosen_width=chosen_width,
    )


def _weights(modules: Iterable[tuple[str, int, int]]) -> int:
    return sum(wide * out for _, wide, out in modules)


def _attention(
    text: Mapping[str, Any], family: str, sizes: _Sizes
) -> tuple[tuple[str, int, int], ...]:
    hidden, queries = sizes.hidden, sizes.heads * sizes.head_dim
    if not sizes.heads:
        inner = sizes.intermediate
        state, rank = number(text, "state_size") or 16, number(text, "time_step_rank")
        rank = rank or -(-hidden // 16)
        return (
            ("in_proj", hidden, 2 * inner),
            ("x_proj", inner, rank + 2 * state),
            ("dt_proj", rank, inner),
            ("out_proj", inner, hidden),
        )
    if latent := number(text, "kv_lora_rank"):
        return _latent_attention(text, sizes, latent)
    keys, out = sizes.kv_heads * sizes.head_dim, OUTPUTS.get(family, "o_proj")
    if name := FUSED_QKV.get(family):
        return ((name, hidden, queries + 2 * keys), (out, queries, hidden))
    return (
        ("q_proj", hidden, queries),
        ("k_proj", hidden, keys),
        ("v_proj", hidden, keys),
        (out, queries, hidden),
    )


def _latent_attention(
    text: Mapping[str, Any], sizes: _Sizes, latent: int
) -> tuple[tuple[str, int, int], ...]:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434)."""
    plain, rotary = number(text, "qk_nope_head_dim") or 128, number(text, "qk_rope_head_dim") or 64
    value, rank = number(text, "v_head_dim") or 128, number(text, "q_lora_rank")
    queries = sizes.heads * (plain + rotary)
    first: tuple[tuple[str, int, int], ...] = (("q_proj", sizes.hidden, queries),)
    if rank:
        first = (("q_a_proj", sizes.hidden, rank), ("q_b_proj", rank, queries))
    return (
        *first,
        ("kv_a_proj_with_mqa", sizes.hidden, latent + rotary),
        ("kv_b_proj", latent, sizes.heads * (plain + value)),
        ("o_proj", sizes.heads * value, sizes.hidden),
    )


def _mlp(family: str, sizes: _Sizes, gated: bool) -> tuple[tuple[str, int, int], ...]:
    hidden, width = sizes.hidden, sizes.intermediate
    if not sizes.heads:
        return ()  # the mixer of a state-space layer is all there is
    if family == "phi3":
        return (("gate_up_proj", hidden, 2 * width), ("down_proj", width, hidden))
    if gated:
        return (
            ("gate_proj", hidden, width),
            ("up_proj", hidden, width),
            ("down_proj", width, hidden),
        )
    up, down = MLP_NAMES.get(family, ("up_proj", "down_proj"))
    return ((up, hidden, width), (down, width, hidden))


def _dense_layers(text: Mapping[str, Any], sizes: _Sizes) -> int:
    """Layers of a mixture of experts that have no experts."""
    if (step := number(text, "sparse_step")) and step > 1:
        return sizes.layers - sizes.layers // step
    first = text.get("first_k_dense_replace")
    listed = text.get("mlp_only_layers")
    count = first if isinstance(first, int) else 0
    count += len(listed) if isinstance(listed, list) else 0
    return min(count, sizes.layers)


def _layer_embeddings(text: Mapping[str, Any], sizes: _Sizes) -> int:
    """Parameters of embeddings that each layer has for itself (Gemma 3n)."""
    width = number(text, "hidden_size_per_layer_input") or 0
    rows = number(text, "vocab_size_per_layer_input") or 0
    return rows * width * sizes.layers


def _shared_width(text: Mapping[str, Any], width: int) -> int:
    """Intermediate width of the experts that every token uses."""
    own = text.get("shared_expert_intermediate_size")
    if isinstance(own, int):
        return own
    shared = text.get("n_shared_experts")
    return width * shared if isinstance(shared, int) else 0


def _tied(text: Mapping[str, Any], config: Mapping[str, Any], family: str) -> bool:
    for place in (text, config):
        said = place.get("tie_word_embeddings")
        if isinstance(said, bool):
            return said
    return family not in UNTIED


def _drops_attention(text: Mapping[str, Any], family: str) -> bool:
    said = text.get("attention_dropout", text.get("attn_pdrop", text.get("attn_dropout")))
    if isinstance(said, int | float):
        return said > 0
    return family in ("gpt2", "gpt_bigcode")  # whose default it is


def _counted(shape: Shape, parameters: int, sees: bool) -> Shape:
    """The shape with the counted parameters: the rest is a vision tower, or part of the layers."""
    rest = parameters - shape.embedding - shape.body
    if sees and rest > 0:
        return Shape(**{**vars(shape), "other": rest})
    body = max(parameters - shape.embedding, 1)
    share = shape.active / max(1, shape.body)
    return Shape(**{**vars(shape), "body": body, "active": max(1, round(body * share))})
