"""Facts of a model before it is loaded: on this machine, on a Hub of our own, and without one."""

import json
import socket
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from trainer_backend.errors import CODES, UserError
from trainer_backend.models import hub_answers
from trainer_backend.models.facts import model_facts, names_here, require_model
from trainer_backend.models.folders import cached_models, count_parameters
from trainer_backend.recipe.recipe import STARTER_MODEL

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "max_position_embeddings": 512,
}
WHOLE = {"config.json": LLAMA, "tokenizer.json": {}, "model.safetensors": b"x" * 100}
BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True}


def put_into_cache(cache: Path, name: str, files: dict, commit: str = "a" * 40) -> Path:
    repository = cache / f"models--{name.replace('/', '--')}"
    folder = repository / "snapshots" / commit
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for file, data in files.items():
        (folder / file).write_bytes(json.dumps(data).encode() if isinstance(data, dict) else data)
    return folder


def refused(home, name: str, ask: bool = True):
    problem = model_facts(home, name, ask_hub=ask).problem
    assert problem.severity == "error" and problem.code in CODES
    with pytest.raises(UserError) as caught:
        require_model(home, name)
    assert (caught.value.what, caught.value.fix) == (problem.what, problem.fix)
    return problem


def test_a_model_of_the_hub_with_all_that_it_says(home, online):
    card = {"license": "apache-2.0"}
    files = {**WHOLE, "chat_template.jinja": b"x", "onnx/model.onnx": b"x" * 999, "README.md": b"x"}
    entry = {"downloads": 1234, "safetensors": {"parameters": {"BF16": 50}, "total": 50}}
    online.add_model("o/tuned-Instruct", files, cardData=card, **entry)
    facts = model_facts(home, "o/tuned-Instruct", ask_hub=True)
    assert (facts.place, facts.parameters, facts.weight_bytes, facts.problem) == (
        "hub",
        50,
        100,
        None,
    )
    assert facts.download_bytes == 100 + 2 + 1 + len(json.dumps(LLAMA))
    assert (facts.licence, facts.downloads, facts.gated) == ("apache-2.0", 1234, False)
    assert (facts.chat_template, facts.instruct, facts.max_positions) == (True, True, 512)
    online.asked.clear()
    again = model_facts(home, "o/tuned-Instruct")
    assert again == facts and again.asked and online.asked == []


def test_nothing_of_a_question_is_left_in_the_hub_cache(home, online, cache):
    online.add_model("o/m", WHOLE)
    model_facts(home, "o/m", ask_hub=True)
    assert not cache.exists()


@pytest.mark.parametrize(
    "files, entry, code, words",
    [
        ({"m-Q4.gguf": b"x"}, {"tags": ["base_model:quantized:Qwen/Qwen3-0.6B"]}, "model_format",
         ["m-Q4.gguf", "Qwen/Qwen3-0.6B"]),
        ({"adapter_config.json": {"base_model_name_or_path": "own/base"},
          "adapter_model.safetensors": b"x"}, {}, "model_adapter", ["own/base", "--from"]),
        ({"config.json": LLAMA, "pytorch_model.bin": b"x"}, {}, "model_format",
         ["pytorch_model.bin", ".safetensors"]),
        ({"config.json": {**LLAMA, "architectures": [], "auto_map": {"AutoModel": "a.B"}},
          "tokenizer.json": {}, "model.safetensors": b"x"}, {}, "model_unfit", ["code"]),
        ({**WHOLE, "config.json": {"model_type": "brand_new"}}, {}, "model_unfit",
         ["brand_new", "transformers"]),
        ({**WHOLE, "config.json": {"model_type": "bert", "architectures": ["BertForMaskedLM"]}}, {},
         "model_unfit", ["BertForMaskedLM", "does not write text"]),
        ({**WHOLE, "config.json": {"model_type": "t5"}}, {}, "model_unfit", ["encoder-decoder"]),
        ({"model_index.json": {}, "unet/a.safetensors": b"x"}, {}, "model_format", ["holds no"]),
        ({"consolidated.safetensors": b"x", "tokenizer.json": {}}, {}, "model_format",
         ["config.json"]),
        ({"config.json": LLAMA, "model.safetensors": b"x"}, {}, "model_format", ["tokenizer"]),
        (WHOLE, {"gated": "manual"}, "hub_gated", ["licence", "huggingface.co/o/m"]),
    ],
)  # fmt: skip
def test_a_repository_that_cannot_be_trained_says_why(
    home, online, monkeypatch, files, entry, code, words
):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    online.add_model("o/m", files, **entry)
    problem = refused(home, "o/m")
    assert problem.code == code and "o/m" in problem.where
    assert all(word in f"{problem.what} {problem.fix}" for word in words), problem


@pytest.mark.parametrize(
    "token, words", [("", "HF_TOKEN"), ("hf_may_not", "may not read"), ("hf_may_read", "")]
)
def test_a_gated_model_depends_on_the_token(home, online, monkeypatch, token, words):
    monkeypatch.setenv("HF_TOKEN", token)
    online.add_model("o/m", WHOLE, gated="auto")
    facts = model_facts(home, "o/m", ask_hub=True)
    assert facts.gated and facts.is_refused == bool(words)
    if words:
        assert words in f"{facts.problem.what} {facts.problem.fix}"
        assert "hf_may" not in str(facts.problem)


def test_a_misspelt_id_names_the_nearest_one(home, online):
    assert "Qwen/Qwen3-0.6B" in refused(home, "Qwen/Qwen-3-0.6B").fix
    assert "Check the spelling" in refused(home, "nobody/zzzzzzzzzzzzzz").fix


@pytest.mark.parametrize(
    "name, word",
    [
        ("not a model", "spaces"),
        ("gpt2", "owner and a name"),
        ("/etc/nothing-here", "no folder"),
        ("https://huggingface.co/Qwen/Qwen3-0.6B/tree/main", "address"),
        ("a/b@main", "version"),
        ("a/b/c", "one slash"),
        ("", "empty"),
        ("/etc", "holds no model"),
    ],
)
def test_a_text_that_is_no_id_is_refused_without_asking(home, online, name, word):
    assert word in refused(home, name).what
    assert online.asked == []
    assert model_facts(home, "https://hf.co/o/m").problem.fix == "Write “o/m”."


def test_the_hub_is_not_asked_about_what_is_here(home, online, cache, tiny_model_dir):
    files = {path.name: path.read_bytes() for path in tiny_model_dir.iterdir() if path.is_file()}
    put_into_cache(cache, "own/tiny-chat", files)
    facts = model_facts(home, "own/tiny-chat", ask_hub=True)
    assert (facts.place, facts.download_bytes, facts.is_here) == ("cache", 0, True)
    assert (
        facts.chat_template
        and facts.instruct
        and facts.parameters == count_parameters(facts.folder)
    )
    assert online.asked == []
    assert names_here(home) == ["own/tiny-chat"]


def test_parameters_are_counted_from_the_headers(tiny_model_dir, make_model):
    wanted = sum(weight.numel() for weight in make_model().parameters())
    assert count_parameters(tiny_model_dir) == wanted


def test_a_cached_config_without_weights_is_no_model_of_this_machine(home, cache):
    put_into_cache(cache, "own/half", {"config.json": LLAMA})
    assert cached_models() == [] and model_facts(home, "own/half").place == "unknown"


def test_without_a_network_it_is_said_at_once_and_what_is_here_is_named(
    home, online, monkeypatch, cache
):
    put_into_cache(cache, "own/one", WHOLE)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    began = time.monotonic()
    facts = model_facts(home, "o/m", ask_hub=True)
    assert time.monotonic() - began < 2.5
    assert facts.problem.severity == "warning" and facts.problem.code == "hub_down"
    assert "own/one" in facts.problem.fix and facts.place == "unknown"
    began = time.monotonic()
    assert model_facts(home, "o/other", ask_hub=True).problem.code == "hub_down"
    assert time.monotonic() - began < 0.3


def test_a_hub_that_never_answers_is_given_up(home, online, monkeypatch):
    monkeypatch.setattr(hub_answers, "SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        assert model_facts(home, "o/m", ask_hub=True).problem.code == "hub_down"
        assert time.monotonic() - began < 2.5


def test_a_preset_is_known_without_the_hub(home, cache):
    facts = model_facts(home, "unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", ask_hub=True)
    assert facts.bits == 4 and facts.parameters == 8_030_261_248 and facts.instruct
    assert facts.config["hidden_size"] == 4096 and "downloaded now" in facts.problem.what
    starter = model_facts(home, STARTER_MODEL, ask_hub=True)
    assert starter.problem is None and starter.download_bytes


def test_four_bits_are_seen_by_the_config_or_the_name(home, online, cache):
    online.add_model("o/m", {**WHOLE, "config.json": {**LLAMA, "quantization_config": BNB}})
    assert model_facts(home, "o/m", ask_hub=True).bits == 4
    assert model_facts(home, "o/m-bnb-4bit").bits == 4


@pytest.mark.parametrize(
    "name, template, instruct",
    [
        ("o/Some-7B-Instruct", False, True),
        ("o/Some-7B-chat-v1", True, True),
        ("o/gemma-2-2b-it", True, True),
        ("o/Some-7B-Base", True, False),
        ("o/Some-7B", False, False),
        ("o/Some-7B", True, None),
        ("o/itinerary", True, None),
    ],
)
def test_base_or_instruct_is_told_only_where_it_is_known(home, online, name, template, instruct):
    tokenizer = {"tokenizer_config.json": {"chat_template": "x"} if template else {"a": 1}}
    online.add_model(name, {**WHOLE, **tokenizer})
    facts = model_facts(home, name, ask_hub=True)
    assert (facts.chat_template, facts.instruct) == (template, instruct)


def test_folders_outside_of_the_roots_are_refused(
    home, cache, monkeypatch, tmp_path, tiny_model_dir
):
    assert model_facts(home, str(tiny_model_dir)).is_here
    monkeypatch.setenv("SFT_STUDIO_MODEL_ROOTS", str(tmp_path / "models"))
    assert "outside" in refused(home, str(tiny_model_dir)).what
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "link").symlink_to(tiny_model_dir)
    assert "outside" in refused(home, str(tmp_path / "models" / "link")).what
    monkeypatch.setenv("SFT_STUDIO_MODEL_ROOTS", f"/nowhere:{tiny_model_dir.parent}")
    assert model_facts(home, str(tiny_model_dir)).is_here
    assert str(tiny_model_dir) in names_here(home)


def test_a_damaged_file_of_kept_answers_is_no_answer(home, cache):
    (home / "models" / "hub_answers.json").write_text('{"o/m": {"base_model": 1}, "x')
    assert model_facts(home, "o/m").place == "unknown"
    (home / "models" / "hub_answers.json").write_text('{"o/m": {"base_model": 1}}')
    assert model_facts(home, "o/m").place == "unknown"
