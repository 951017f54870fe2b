"""A GGUF file says what the model says (read back with transformers); what cannot, is refused."""

import json
from types import SimpleNamespace

import gguf
import pytest
import torch
import transformers
from tokenizers import Regex, pre_tokenizers, processors
from transformers import AddedToken, AutoModelForCausalLM, AutoTokenizer

from trainer_backend.errors import UserError
from trainer_backend.export import export_run
from trainer_backend.gguf_export import check_model, write_gguf
from trainer_backend.gguf_tokenizer import PATTERNS, pre_tokenizer, read_vocabulary
from trainer_backend.model_card import GGUF_FILE
from trainer_backend.recipe import Recipe
from trainer_backend.runs import create_run
from trainer_backend.worker_main import run_worker

SMALL = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 3,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILIES = {
    "llama": ("llama", {}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "wide heads": ("llama", {"head_dim": 16}),
    "mistral": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 128}),  # the reader in transformers knows no other size
}
TEXTS = [
    "The capital of France is Paris.",
    "<|im_start|>user\nWho wrote Hamlet?<|im_end|>\n",
    "  two  spaces, 123 and 4\n\n1. List\n",
    "I've naïve 日本語 🚀",
]


def settings(kind, **changes):
    return transformers.AutoConfig.for_model(kind, **{**SMALL, **changes})


def build(kind, **changes):
    """A model whose matrices are exact in 16 bit, with norms and biases that matter."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(settings(kind, **changes)).eval()
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            weight.data.normal_(1.0 if "norm" in name else 0.0, 0.3)
        else:
            weight.data = weight.data.half().float()
    return model


def write(model, tokenizer, folder, **facts):
    file = folder / "tiny.gguf"
    vocabulary = read_vocabulary(tokenizer, model.config)
    write_gguf(model, vocabulary, file, "a run", facts.get("on_tensor", lambda *_: None))
    return file


def refusal(function, *arguments) -> UserError:
    with pytest.raises(UserError) as caught:
        function(*arguments)
    assert "merged" in caught.value.fix and "convert_hf_to_gguf" in caught.value.fix
    return caught.value


# What is written


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_read_back_gives_the_same_logits(family, tokenizer, tmp_path):
    kind, changes = FAMILIES[family]
    model = build(kind, **changes)
    file = write(model, tokenizer, tmp_path)
    again = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=file.name, dtype=torch.float32
    ).eval()
    ids = torch.arange(5, 300)[None]
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, model(ids).logits, atol=1e-4, rtol=1e-4)


def test_matrices_are_16_bit_and_norms_32(tokenizer, tmp_path):
    seen = []
    file = write(build("qwen2"), tokenizer, tmp_path, on_tensor=lambda *at: seen.append(at))
    tensors = gguf.GGUFReader(file).tensors
    kinds = {len(one.shape): one.tensor_type.name for one in tensors}
    assert kinds == {1: "F32", 2: "F16"} and seen[-1] == (len(tensors), len(tensors))


def test_the_file_states_what_llama_cpp_reads(tokenizer, tmp_path):
    file = write(build("llama"), tokenizer, tmp_path)
    facts = {key: field.contents() for key, field in gguf.GGUFReader(file).fields.items()}
    expected = {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": "a run",
        "general.file_type": 1,
        "general.quantization_version": 2,
        "llama.block_count": 2,
        "llama.context_length": 512,
        "llama.embedding_length": 32,
        "llama.feed_forward_length": 64,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 8,
        "llama.attention.value_length": 8,
        "llama.rope.dimension_count": 8,
        "llama.rope.freq_base": 10000.0,
        "llama.vocab_size": 400,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 3,
        "tokenizer.chat_template": tokenizer.chat_template,
    }
    assert {key: facts[key] for key in expected} == expected
    assert facts["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    assert facts["tokenizer.ggml.tokens"][:4] == tokenizer.convert_ids_to_tokens([0, 1, 2, 3])
    assert facts["tokenizer.ggml.token_type"][:5] == [3, 3, 3, 3, 1]


def test_the_tokenizer_read_back_cuts_text_the_same(tokenizer, tmp_path):
    file = write(build("llama"), tokenizer, tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path, gguf_file=file.name)
    for text in TEXTS:
        assert again(text).input_ids == tokenizer(text).input_ids, text
    messages = [{"role": "user", "content": "Say 3"}]
    ours, theirs = (
        one.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        for one in (tokenizer, again)
    )
    assert ours == theirs and again.eos_token == tokenizer.eos_token


def test_llama_3_divides_slow_frequencies_and_leaves_fast_ones(tokenizer, tmp_path):
    file = write(build("llama", rope_parameters=LLAMA3), tokenizer, tmp_path)
    first = gguf.GGUFReader(file).tensors[0]
    assert first.name == "rope_freqs.weight" and first.data.shape == (4,)
    assert first.data[0] == pytest.approx(1.0) and first.data[-1] == pytest.approx(8.0)


def test_rows_without_a_token_are_filled_up(tokenizer):
    vocabulary = read_vocabulary(tokenizer, settings("llama", vocab_size=403))
    assert vocabulary.tokens[-1] == "[PAD402]" and vocabulary.types[-1] == 5
    assert len(vocabulary.tokens) == len(vocabulary.types) == 403


def test_added_tokens_that_are_not_special_are_the_users(tokenizer):
    tokenizer.add_tokens(["<think>"])
    vocabulary = read_vocabulary(tokenizer, settings("llama", vocab_size=401))
    assert (vocabulary.tokens[400], vocabulary.types[400]) == ("<think>", 4)


def test_a_start_token_put_before_every_text_is_noted(tokenizer):
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    vocabulary = read_vocabulary(tokenizer, settings("llama"))
    assert (vocabulary.add_bos, vocabulary.add_eos) == (True, False)


# How text is cut into words


def spec_of(tokenizer, *parts, normalizer=None, **model) -> dict:
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(list(parts)) if len(parts) > 1 else parts[0]
    spec = json.loads(backend.to_str())
    spec["normalizer"] = normalizer
    spec["model"].update(model)
    return spec


def split(pattern, behavior="isolated"):
    return pre_tokenizers.Split(Regex(pattern), behavior=behavior)


QWEN, LLAMA = PATTERNS
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
DIGITS = pre_tokenizers.Digits(individual_digits=True)
NFC = {"type": "NFC"}


@pytest.mark.parametrize(
    ("name", "parts", "extra"),
    [
        ("gpt-2", [WORDS], {}),
        ("smollm", [DIGITS, WORDS], {}),
        ("qwen2", [split(QWEN), BYTES], {"normalizer": NFC}),
        ("llama-bpe", [split(LLAMA), BYTES], {"ignore_merges": True}),
    ],
)
def test_the_rule_for_words_has_llama_cpps_name(name, parts, extra, tokenizer):
    assert pre_tokenizer(spec_of(tokenizer, *parts, **extra)) == name


def test_qwens_own_tokenizer_class_is_known():
    merges = [("a", "b")]
    qwen = transformers.Qwen2Tokenizer(vocab={"a": 0, "b": 1, "ab": 2}, merges=merges)
    assert pre_tokenizer(json.loads(qwen.backend_tokenizer.to_str())) == "qwen2"


@pytest.mark.parametrize(
    ("parts", "extra"),
    [
        ([pre_tokenizers.Whitespace()], {}),
        ([pre_tokenizers.Metaspace()], {"byte_fallback": True}),
        ([pre_tokenizers.ByteLevel(add_prefix_space=True)], {}),
        ([BYTES], {}),
        ([pre_tokenizers.Digits(individual_digits=False), WORDS], {}),
        ([split(r"\d+"), BYTES], {}),
        ([split(QWEN, "removed"), BYTES], {}),
        ([split(QWEN), WORDS], {}),
        ([split(LLAMA), BYTES], {"ignore_merges": False}),
        ([WORDS], {"ignore_merges": True}),
        ([WORDS], {"normalizer": NFC}),
        ([split(QWEN), BYTES], {"normalizer": {"type": "Lowercase"}}),
        ([WORDS], {"end_of_word_suffix": "</w>"}),
        ([WORDS], {"type": "WordLevel"}),
    ],
)
def test_other_ways_to_cut_text_are_refused(parts, extra, tokenizer):
    refusal(pre_tokenizer, spec_of(tokenizer, *parts, **extra))


def test_tokens_that_eat_the_space_beside_them_are_refused(tokenizer):
    tokenizer.add_tokens([AddedToken("<mask>", lstrip=True)])
    refusal(read_vocabulary, tokenizer, settings("llama", vocab_size=401))


def test_tokenizers_without_byte_level_rules_are_refused():
    refusal(read_vocabulary, SimpleNamespace(is_fast=False), settings("llama"))


def test_more_tokens_than_rows_are_refused(tokenizer):
    assert "rows" in refusal(read_vocabulary, tokenizer, settings("llama", vocab_size=300)).what


def test_a_tokenizer_without_an_end_token_is_refused(tokenizer):
    tokenizer.eos_token = None
    assert "ends an answer" in refusal(read_vocabulary, tokenizer, settings("llama")).what


def test_unusual_tokens_around_a_text_are_refused(tokenizer):
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    assert "every text" in refusal(read_vocabulary, tokenizer, settings("llama")).what


# Models that are not written


@pytest.mark.parametrize(
    ("kind", "changes", "word"),
    [
        ("gemma", {}, "gemma"),
        ("phi3", {}, "phi3"),
        ("llama", {"rope_parameters": {**LLAMA3, "rope_type": "linear"}}, "context"),
        (
            "qwen2",
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}},
            "context",
        ),
        (
            "llama",
            {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
            "context",
        ),
        ("mistral", {"sliding_window": 64}, "window"),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 1}, "window"),
        ("llama", {"attention_bias": True}, "biases"),
        ("llama", {"mlp_bias": True}, "biases"),
        ("qwen3", {"attention_bias": True}, "biases"),
        ("llama", {"hidden_act": "gelu"}, "activation"),
    ],
)
def test_models_that_would_come_out_wrong_are_refused(kind, changes, word):
    assert word in refusal(check_model, settings(kind, **changes)).what


@pytest.mark.parametrize("value", [float("nan"), 1e5])
def test_numbers_that_16_bit_cannot_hold_are_refused(value, tokenizer, tmp_path):
    model = build("llama")
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = value
    assert "layers.1.mlp.up_proj" in refusal(write, model, tokenizer, tmp_path).what


def test_a_weight_without_a_place_is_refused(tokenizer, tmp_path):
    model = build("llama")
    model.model.layers[0].extra = torch.nn.Linear(2, 2)
    assert "layers.0.extra" in refusal(write, model, tokenizer, tmp_path).what


# The export of a run


@pytest.fixture(params=["lora", "full"])
def finished(request, home, dataset, tiny_model_dir):
    recipe = Recipe(
        base_model=str(tiny_model_dir),
        adapter=request.param,
        precision="fp32",
        learning_rate=1e-2,
        max_steps=2,
        max_length=128,
        system_prompt="Don't shout.",
    )
    run = create_run(home, recipe, dataset, foreground=True)
    assert run_worker(run.dir) == 0, run.state()
    return run


def test_a_runs_gguf_file_is_its_merged_model(finished):
    seen = []
    folder = export_run(finished, "gguf", progress=lambda what, *_: seen.append(what))
    merged = AutoModelForCausalLM.from_pretrained(export_run(finished, "merged")).eval()
    again = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=GGUF_FILE, dtype=torch.float32
    ).eval()
    ids = torch.arange(5, 105)[None]
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, merged(ids).logits, atol=0.05, rtol=0.01)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", GGUF_FILE]
    page = (folder / "README.md").read_text()
    assert f"--model {folder}/{GGUF_FILE}" in page and "'Don'\"'\"'t shout.'" in page
    assert "Writing the GGUF file" in seen


def test_a_refused_model_leaves_nothing_behind(finished, monkeypatch):
    monkeypatch.setattr("trainer_backend.gguf_export.ARCHITECTURES", {})
    refusal(export_run, finished, "gguf")
    assert list((finished.home / "exports").rglob("*.gguf")) == []
    assert [path.name for path in (finished.home / "exports" / finished.id).iterdir()] == []
