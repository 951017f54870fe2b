"""A model as one GGUF file for llama.cpp and the programs built on it.

The tokenizer's part is gguf_tokenizer.py, merging is export.py. Only architectures whose file is
proven to say the same as the model are written: llama.cpp loads a wrong file without a word.
"""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import torch

from trainer_backend.export.gguf_tokenizer import Vocabulary, refused

ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
}
ROPE_TYPES = ("default", "llama3")


def write_gguf(
    model: torch.nn.Module,
    vocabulary: Vocabulary,
    file: Path,
    name: str,
    on_tensor: Callable[[int, int], None],
) -> None:
    """Write model and tokenizer in 16 bit (norms and biases in 32). Raises UserError.

    `on_tensor(done, total)` is called after each tensor.
    """
    check_model(model.config)
    state = model.state_dict()
    tensors = _tensor_names(model.config, state)
    writer = gguf.GGUFWriter(None, gguf.MODEL_ARCH_NAMES[_architecture(model.config)])
    _add_facts(writer, model, name)
    vocabulary.add_to(writer)
    factors = _rope_factors(model)
    if factors is not None:
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
    for target, source in tensors.items():
        shape, width = state[source].shape, _width(state[source])
        count = int(np.prod(shape)) * np.dtype(width).itemsize
        writer.add_tensor_info(target, shape, np.dtype(width), count)
    try:
        writer.write_header_to_file(file)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if factors is not None:
            writer.write_tensor_data(factors)
        for done, (target, source) in enumerate(tensors.items(), 1):
            writer.write_tensor_data(_values(state[source], source, target, model.config))
            on_tensor(done, len(tensors))
    finally:
        writer.close()


def check_model(config) -> None:
    """Refuse what would be written wrongly. Raises UserError; no weights are needed."""
    kind = getattr(config, "model_type", "")
    if kind not in ARCHITECTURES:
        raise refused(f"GGUF is written for Llama, Mistral, Qwen2 and Qwen3 models, not “{kind}”.")
    rope = config.rope_parameters
    if (
        rope.get("rope_type", "default") not in ROPE_TYPES
        or rope.get("partial_rotary_factor", 1.0) != 1.0
    ):
        raise refused("This model stretches its context in a way that is not written to GGUF.")
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = kind == "mistral" and config.sliding_window is not None
    if window or layers != {"full_attention"}:
        raise refused("This model attends through a sliding window, which is not written to GGUF.")
    biased = kind != "qwen2" and getattr(config, "attention_bias", False)
    if biased or getattr(config, "mlp_bias", False) or config.hidden_act != "silu":
        raise refused("This model has biases or an activation that are not written to GGUF.")


def _architecture(config) -> gguf.MODEL_ARCH:
    return ARCHITECTURES[config.model_type]


def _head_size(config) -> int:
    size = getattr(config, "head_dim", None)
    return size or config.hidden_size // config.num_attention_heads


# Weights


def _tensor_names(config, state: dict) -> dict[str, str]:
    """{name in the file: name in the model}; tied output weights are in the embedding."""
    names = gguf.get_tensor_name_map(_architecture(config), config.num_hidden_layers)
    found = {}
    for source in state:
        if source == "lm_head.weight" and config.tie_word_embeddings:
            continue
        target = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if target is None or not state[source].is_floating_point():
            raise refused(f"The weight “{source}” has no place in a GGUF file of this kind.")
        found[target] = source
    return found


def _width(weight: torch.Tensor) -> type:
    """Norms and biases stay in 32 bit, as llama.cpp wants them."""
    return np.float32 if weight.ndim == 1 else np.float16


def _values(weight: torch.Tensor, source: str, target: str, config) -> np.ndarray:
    values = weight.detach().float().cpu().numpy()
    if _architecture(config) is gguf.MODEL_ARCH.LLAMA:
        if ".attn_q." in target:
            values = _interleave(values, config.num_attention_heads)
        elif ".attn_k." in target:
            values = _interleave(values, config.num_key_value_heads)
    limit = np.finfo(np.float16).max
    if not np.isfinite(values).all() or (weight.ndim > 1 and np.abs(values).max() > limit):
        raise refused(f"The weight “{source}” holds numbers that 16 bit cannot hold.")
    return np.ascontiguousarray(values, dtype=_width(weight))


def _interleave(values: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp turns neighbouring pairs of a head; transformers turns its two halves."""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _rope_factors(model: torch.nn.Module) -> np.ndarray | None:
    """What each frequency is divided by (Llama 3.1's long context), from the model's own table."""
    rope = model.config.rope_parameters
    if rope.get("rope_type", "default") == "default":
        return None
    size = _head_size(model.config)
    plain = 1.0 / rope["rope_theta"] ** (np.arange(0, size, 2, dtype=np.float64) / size)
    used = model.model.rotary_emb.inv_freq.double().cpu().numpy()
    return (plain / used).astype(np.float32)


def _add_facts(writer: gguf.GGUFWriter, model: torch.nn.Module, name: str) -> None:
    config, size = model.config, _head_size(model.config)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_size_label(gguf.size_label(model.num_parameters(), 0, 0, 0))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
