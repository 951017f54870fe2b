"""A GGUF file says what the model says (read back with transformers); what cannot, is refused."""

import json
import subprocess
import sys

import gguf
import pytest
import torch
import transformers
from conftest import TINY_LLAMA
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer_backend.errors import UserError
from trainer_backend.export.exporter import export_run
from trainer_backend.export.gguf import check_model, read_vocabulary, write_gguf
from trainer_backend.models.snippets import GGUF_FILE
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import create_run
from trainer_backend.worker.main import run_worker

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
    return transformers.AutoConfig.for_model(kind, **{**TINY_LLAMA, **changes})


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


def test_weights_stored_in_fewer_bits_are_refused(tokenizer, tmp_path):
    model = build("llama")
    packed = torch.zeros(8, 8, dtype=torch.uint8)
    model.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(packed, requires_grad=False)
    assert "layers.0.mlp.up_proj" in refusal(write, model, tokenizer, tmp_path).what


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


def test_a_runs_gguf_file_is_its_merged_model_and_a_refusal_leaves_nothing(finished, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("trainer_backend.export.gguf.ARCHITECTURES", {})
        refusal(export_run, finished, "gguf")
    assert list((finished.home / "exports" / finished.id).iterdir()) == []
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
    assert f"--model gguf/{GGUF_FILE}" in page and "'Don'\"'\"'t shout.'" in page
    assert "Writing the GGUF file" in seen


# llama.cpp itself (runs where the package xllamacpp is installed)

ASK_LLAMA_CPP = """
import json, os, sys, urllib.request
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.cpuparams.n_threads = sys.argv[1], 512, 1
params.warmup, params.port, params.verbosity, params.n_gpu_layers = False, 0, -1, 0
server = xllamacpp.Server(params)
answers = []
for path, question in json.load(sys.stdin):
    body, kind = json.dumps(question).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(server.listening_address + path, body, kind)
    answers.append(json.load(urllib.request.urlopen(request)))
print("\\nANSWERS" + json.dumps(answers), flush=True)
os._exit(0)
"""


def ask_llama_cpp(file, *questions) -> list[dict]:
    pytest.importorskip("xllamacpp")
    command = [sys.executable, "-c", ASK_LLAMA_CPP, str(file)]
    done = subprocess.run(
        command, input=json.dumps(questions), capture_output=True, text=True, timeout=120
    )
    return json.loads(done.stdout.partition("ANSWERS")[2] or f'"{done.returncode}"')


@pytest.mark.parametrize("family", [*FAMILIES, "llama3"])
def test_llama_cpp_computes_and_reads_the_same(family, tokenizer, tmp_path):
    kind, changes = FAMILIES.get(family, ("llama", {"rope_parameters": LLAMA3}))
    model = build(kind, **changes)
    ids = list(range(5, 300))
    messages = [{"role": "user", "content": "Say 3"}]
    next_token, template, *texts = ask_llama_cpp(
        write(model, tokenizer, tmp_path),
        ("/completion", {"prompt": ids, "n_predict": 1, "n_probs": 400, "temperature": 0.0}),
        ("/apply-template", {"messages": messages}),
        *[("/tokenize", {"content": text, "parse_special": True}) for text in TEXTS],
    )
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    found = {
        t["id"]: t["logprob"] for t in next_token["completion_probabilities"][0]["top_logprobs"]
    }
    assert len(found) == 400
    assert [found[n] for n in range(400)] == pytest.approx(expected.tolist(), abs=0.05)
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert template["prompt"] == rendered
    assert [one["tokens"] for one in texts] == [tokenizer(text).input_ids for text in TEXTS]
