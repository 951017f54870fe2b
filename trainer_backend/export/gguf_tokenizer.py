"""A tokenizer as llama.cpp reads it from a GGUF file. Weights are gguf_export.py.

Only byte-level BPE whose way to cut text into words llama.cpp knows by name; others are refused.
"""

import json
from dataclasses import dataclass

import gguf

from trainer_backend.errors import UserError

WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {WORDS + REST: "qwen2", WORDS + "{1,3}" + REST: "llama-bpe"}
UNSUPPORTED = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
FIX = "Export “merged” and convert that folder with llama.cpp's own convert_hf_to_gguf.py."


def refused(what: str, where: str = "Export as GGUF") -> UserError:
    """What cannot be written faithfully, and the way around it."""
    return UserError(what, where, FIX)


@dataclass(frozen=True)
class Vocabulary:
    """Everything the file says about the tokenizer; `ids` are the tokens with a job."""

    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    add_bos: bool
    add_eos: bool
    ids: dict[str, int]
    chat_template: str

    def add_to(self, writer: gguf.GGUFWriter) -> None:
        """Write it into the file's metadata."""
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


def read_vocabulary(tokenizer, config) -> Vocabulary:
    """Describe a model's tokenizer. Raises UserError if llama.cpp would cut text differently."""
    if not tokenizer.is_fast:
        raise refused("This tokenizer is not a byte-level one, which is what GGUF is written for.")
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


def pre_tokenizer(spec: dict) -> str:
    """llama.cpp's name for how a tokenizer.json cuts text into words. Raises UserError."""
    model, pre = spec["model"], spec["pre_tokenizer"] or {}
    name = _words_rule(pre["pretokenizers"] if pre.get("type") == "Sequence" else [pre])
    plain = model["type"] == "BPE" and not any(model.get(key) for key in UNSUPPORTED)
    # llama.cpp takes whole words from the vocabulary, whatever the merges, for this rule alone
    whole_words = bool(model.get("ignore_merges")) == (name == "llama-bpe")
    # llama.cpp normalises nothing; its own converter accepts that for Qwen's NFC
    normal = spec["normalizer"] is None or (name == "qwen2" and spec["normalizer"]["type"] == "NFC")
    strict = all(not (t["lstrip"] or t["rstrip"] or t["single_word"]) for t in spec["added_tokens"])
    if name is None or not (plain and whole_words and normal and strict):
        raise refused("llama.cpp would cut text into other tokens than this tokenizer does.")
    return name


def _words_rule(parts: list[dict]) -> str | None:
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


def _tokens(tokenizer, rows: int) -> tuple[list[str], list[int]]:
    """Every row of the embedding with its text and kind; rows without a token are “unused”."""
    vocabulary = tokenizer.get_vocab()
    if max(vocabulary.values()) >= rows:
        raise refused("The tokenizer has more tokens than the model has rows for.")
    tokens = [f"[PAD{row}]" for row in range(rows)]
    types = [int(gguf.TokenType.UNUSED)] * rows
    for text, row in vocabulary.items():
        tokens[row], types[row] = text, int(gguf.TokenType.NORMAL)
    for row, token in tokenizer.added_tokens_decoder.items():
        kind = gguf.TokenType.CONTROL if token.special else gguf.TokenType.USER_DEFINED
        types[row] = int(kind)
    return tokens, types


def _added_ends(tokenizer) -> tuple[bool, bool]:
    """Whether the tokenizer puts its start token before a text and its end token after it."""
    text = tokenizer("a", add_special_tokens=False).input_ids
    ids = tokenizer("a").input_ids
    for bos in (False, True):
        for eos in (False, True):
            if ids == [tokenizer.bos_token_id] * bos + text + [tokenizer.eos_token_id] * eos:
                return bos, eos
    raise refused("This tokenizer adds tokens to every text that GGUF has no setting for.")


def _special_ids(tokenizer, config) -> dict[str, int]:
    """The tokens with a job; without an end token llama.cpp would stop at any token with id 11."""
    if tokenizer.eos_token_id is None:
        raise refused("This tokenizer names no token that ends an answer.")
    bos = tokenizer.bos_token_id
    ids = {
        "bos": config.bos_token_id if bos is None else bos,
        "eos": tokenizer.eos_token_id,
        "unk": tokenizer.unk_token_id,
        "pad": tokenizer.pad_token_id,
    }
    return {name: number for name, number in ids.items() if number is not None}
