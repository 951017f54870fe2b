"""A run of a base model whose template ends answers with another token than the model's own."""

import json

import gguf
import pytest
from closing_templates import PLAIN_MARKS, with_tokens
from conftest import build_model, build_tokenizer
from small_runs import small_run, train_small

from trainer_backend.export.exporter import export_run
from trainer_backend.worker.main import run_worker


@pytest.fixture(scope="module")
def base_dir(tmp_path_factory):
    """A base model with a ChatML template: its own end token is <|endoftext|> (0)."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = build_tokenizer()
    tokenizer.eos_token = tokenizer.pad_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    build_model(eos_token_id=0, pad_token_id=0).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def endless_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("endless")
    with_tokens(build_tokenizer(), PLAIN_MARKS).save_pretrained(folder)
    build_model().save_pretrained(folder)
    return folder


def stops_of(folder) -> list[int]:
    found = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    return found if isinstance(found, list) else [found]


def test_checkpoints_and_every_export_stop_at_the_templates_end(home, dataset, base_dir, tmp_path):
    run = train_small(home, dataset, base_dir, max_steps=2)
    assert stops_of(run.checkpoints()[-1].path) == [2, 0]
    for format in ("adapter", "merged"):
        assert stops_of(export_run(run, format, tmp_path / format)) == [2, 0]
    folder = export_run(run, "gguf", tmp_path / "gguf")
    fields = gguf.GGUFReader(next(folder.glob("*.gguf"))).fields
    ids = {key.rsplit(".", 1)[1]: int(field.parts[field.data[0]][0])
           for key, field in fields.items() if key.endswith("token_id")}  # fmt: skip
    assert ids["eos_token_id"] == 0 and ids["eot_token_id"] == 2


def test_a_run_that_cannot_learn_to_stop_says_so(home, dataset, endless_dir):
    run = train_small(home, dataset, endless_dir, max_steps=1)
    (warning,) = [one for one in run.summary()["warnings"] if "learn to stop" in one]
    assert "no row teaches" in warning and "End token" in warning and "<|endoftext|>" in warning


def test_the_recipes_end_token_is_learned_and_kept(home, dataset, endless_dir):
    run = train_small(home, dataset, endless_dir, max_steps=1, eos_token="<|im_end|>")
    assert run.summary()["warnings"] == []
    checkpoint = run.checkpoints()[-1].path
    settings = json.loads((checkpoint / "tokenizer_config.json").read_text())
    assert settings["eos_token"] == "<|im_end|>" and stops_of(checkpoint)[0] == 2


def test_an_unknown_end_token_ends_the_run_before_its_first_step(home, dataset, endless_dir):
    run = small_run(home, dataset, endless_dir, eos_token="<stop>")
    assert run_worker(run.dir) == 2
    error = run.state()["error"]
    assert "“<stop>” is not a token" in error["what"] and error["where"] == "End token"
