"""Writes a model and its tokenizer as one GGUF file for llama.cpp and programs built on it.

Only architectures and tokenizers are written whose files were proven to give the model's own
results, because llama.cpp loads a wrong file without an error. Models come merged; nothing is
quantized here. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from trainer_backend.errors import UserError
from trainer_backend.tokens.stopping import closing_tokens

WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {WORDS + REST: "qwen2", WORDS + "{1,3}" + REST: "llama-bpe"}
UNSUPPORTED = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
FIX = "Export “merged” and convert that folder with llama.cpp's own convert_hf_to_gguf.py."


def refused(what: str, where: str = "Export as GGUF") -> UserError:
    """The error for what cannot be written faithfully; its fix names the way around."""
    return UserError(what, where, FIX)


@dataclass(frozen=True)
class Vocabulary:
    """The tokenizer's part of the file; `ids` are its special tokens by name."""

    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    add_bos: bool
    add_eos: bool
    ids: dict[str, int]
    chat_template: str

    def add_to(self, writer: gguf.GGUFWriter) -> None:
        """Add it to the metadata of the file."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        writer.add_token_merges(self.merges)
        writer.add_add_space_prefix(False)
        writer.add_add_bos_token(self.add_bos)
        writer.add_add_eos_token(self.add_eos)
        for name, number in self.ids.items():
            getattr(writer, f"add_{name}_token_id")(number)
        writer.add_chat_template(self.chat_template)


def read_vocabulary(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> Vocabulary:
    """Describe a byte-level BPE tokenizer. Raises UserError if llama.cpp would differ from it."""
    if not tokenizer.is_fast:
        raise refused("GGUF is written for byte-level tokenizers only, and this is another kind.")
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    pre = pre_tokenizer(spec)
    tokens, types = _tokens(tokenizer, config.vocab_size)
    add_bos, add_eos = _added_ends(tokenizer)
    merges = spec["model"]["merges"]
    return Vocabulary(
        pre=pre,
        tokens=tokens,
        types=types,
        merges=[one if isinstance(one, str) else " ".join(one) for one in merges],
        add_bos=add_bos,
        add_eos=add_eos,
        ids=_special_ids(tokenizer, config),
        chat_template=tokenizer.get_chat_template(),
    )


def pre_tokenizer(spec: dict[str, Any]) -> str:
    """llama.cpp's name for the pre-tokenizer of a tokenizer.json. Raises UserError."""
    model, pre = spec["model"], spec["pre_tokenizer"] or {}
    name = _words_rule(pre["pretokenizers"] if pre.get("type") == "Sequence" else [pre])
    plain = model["type"] == "BPE" and not any(model.get(key) for key in UNSUPPORTED)
    # llama.cpp looks whole words up before it merges for this pre-tokenizer alone
    whole_words = bool(model.get("ignore_merges")) == (name == "llama-bpe")
    # llama.cpp normalises nothing; its own converter accepts that for Qwen's NFC
    normal = spec["normalizer"] is None or (name == "qwen2" and spec["normalizer"]["type"] == "NFC")
    strict = all(not (t["lstrip"] or t["rstrip"] or t["single_word"]) for t in spec["added_tokens"])
    if name is None or not (plain and whole_words and normal and strict):
        raise refused("llama.cpp would split text into other tokens than this tokenizer does.")
    return name


def _words_rule(parts: list[dict[str, Any]]) -> str | None:
    kinds, first, last = [part.get("type") for part in parts], parts[0], parts[-1]
    if last.get("type") != "ByteLevel" or last["add_prefix_space"]:
        return None
    if kinds == ["ByteLevel"] and last["use_regex"]:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and first["individual_digits"] and last["use_regex"]:
        return "smollm"
    if kinds != ["Split", "ByteLevel"] or last["use_regex"] or first["invert"]:
        return None
    return PATTERNS.get(first["pattern"].get("Regex")) if first["behavior"] == "Isolated" else None


def _tokens(tokenizer: PreTrainedTokenizerBase, rows: int) -> tuple[list[str], list[int]]:
    """Text and type of every row of the embedding; rows without a token are “unused”."""
    vocabulary = tokenizer.get_vocab()
    if max(vocabulary.values()) >= rows:
        raise refused("The tokenizer has more tokens than the model's embedding has rows.")
    tokens = [f"[PAD{row}]" for row in range(rows)]
    types = [int(gguf.TokenType.UNUSED)] * rows
    for text, row in vocabulary.items():
        tokens[row], types[row] = text, int(gguf.TokenType.NORMAL)
    for row, token in tokenizer.added_tokens_decoder.items():
        kind = gguf.TokenType.CONTROL if token.special else gguf.TokenType.USER_DEFINED
        types[row] = int(kind)
    return tokens, types


def _added_ends(tokenizer: PreTrainedTokenizerBase) -> tuple[bool, bool]:
    """Whether the tokenizer adds its bos token before a text, and its eos token after it."""
    text = tokenizer("a", add_special_tokens=False).input_ids
    ids = tokenizer("a").input_ids
    for bos in (False, True):
        for eos in (False, True):
            if ids == [tokenizer.bos_token_id] * bos + text + [tokenizer.eos_token_id] * eos:
                return bos, eos
    raise refused("This tokenizer adds tokens to every text that GGUF has no setting for.")


def _special_ids(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> dict[str, int]:
    """Ids of the special tokens; without eos llama.cpp would stop at its default, id 11."""
    if tokenizer.eos_token_id is None:
        raise refused("This tokenizer has no end-of-sequence token.")
    bos = tokenizer.bos_token_id
    ids = {
        "bos": config.bos_token_id if bos is None else bos,
        "eos": tokenizer.eos_token_id,
        "unk": tokenizer.unk_token_id,
        "pad": tokenizer.pad_token_id,
        **_turn_ends(tokenizer),
    }
    return {name: number for name, number in ids.items() if number is not None}


def _turn_ends(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Tokens that end an answer (eot) and, if it is another one, a turn with calls (eom).

    llama.cpp stops at eos, eot and eom; without these keys it would go by the tokens' names.
    """
    closing = closing_tokens(tokenizer)
    names = ("eot", "eom") if len(closing) > 1 else ("eot",)
    return dict(zip(names, closing, strict=False))


ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
}
ROPE_TYPES = ("default", "llama3")


def write_gguf(
    model: PreTrainedModel,
    vocabulary: Vocabulary,
    file: Path,
    name: str,
    on_tensor: Callable[[int, int], None],
) -> None:
    """Write model and tokenizer in float16 (norms and biases in float32). Raises UserError.

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


def check_model(config: PreTrainedConfig) -> None:
    """Raises UserError when a model with this configuration cannot be written faithfully."""
    kind = getattr(config, "model_type", "")
    if kind not in ARCHITECTURES:
        raise refused(f"GGUF is written for Llama, Mistral, Qwen2 and Qwen3 models, not “{kind}”.")
    rope = config.rope_parameters
    scaled = rope.get("rope_type", "default") not in ROPE_TYPES
    if scaled or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise refused("This model extends its context in a way that is not written to GGUF.")
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = kind == "mistral" and config.sliding_window is not None
    if window or layers != {"full_attention"}:
        raise refused("This model uses sliding-window attention, which is not written to GGUF.")
    biased = kind != "qwen2" and getattr(config, "attention_bias", False)
    if biased or getattr(config, "mlp_bias", False) or config.hidden_act != "silu":
        raise refused("This model has biases or an activation that are not written to GGUF.")


def _architecture(config: PreTrainedConfig) -> gguf.MODEL_ARCH:
    return ARCHITECTURES[config.model_type]


def _head_size(config: PreTrainedConfig) -> int:
    size = getattr(config, "head_dim", None)
    return size or config.hidden_size // config.num_attention_heads


def _tensor_names(config: PreTrainedConfig, state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """{name in the file: name in the model}; a tied output layer is left out."""
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


def _width(weight: torch.Tensor) -> type[np.floating]:
    """Norms and biases are stored in float32, as llama.cpp expects."""
    return np.float32 if weight.ndim == 1 else np.float16


def _values(weight: torch.Tensor, source: str, target: str, config: PreTrainedConfig) -> np.ndarray:
    values = weight.detach().float().cpu().numpy()
    if _architecture(config) is gguf.MODEL_ARCH.LLAMA:
        if ".attn_q." in target:
            values = _interleave(values, config.num_attention_heads)
        elif ".attn_k." in target:
            values = _interleave(values, config.num_key_value_heads)
    limit = np.finfo(np.float16).max
    if not np.isfinite(values).all() or (weight.ndim > 1 and np.abs(values).max() > limit):
        raise refused(f"The weight “{source}” has values outside the range of float16.")
    return np.ascontiguousarray(values, dtype=_width(weight))


def _interleave(values: np.ndarray, heads: int) -> np.ndarray:
    """Reorder rows: llama.cpp rotates neighbouring pairs of a head, transformers its two halves."""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _rope_factors(model: PreTrainedModel) -> np.ndarray | None:
    """The divisor of each rotary frequency (Llama 3.1's long context), from the model's buffer."""
    rope = model.config.rope_parameters
    if rope.get("rope_type", "default") == "default":
        return None
    size = _head_size(model.config)
    plain = 1.0 / rope["rope_theta"] ** (np.arange(0, size, 2, dtype=np.float64) / size)
    used = model.get_buffer("model.rotary_emb.inv_freq").double().cpu().numpy()
    return (plain / used).astype(np.float32)


def _add_facts(writer: gguf.GGUFWriter, model: PreTrainedModel, name: str) -> None:
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
