"""The bundled samples: made by the program that is shipped, right in every row, small."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trainer_backend.data.store.lookup import resolve_data
from trainer_backend.data.store.uploads import create_from_sample
from trainer_backend.errors import UserError
from trainer_backend.recipe.presets import samples

ROOT = Path(__file__).parents[1]


def test_files_equal_what_the_program_makes(tmp_path):
    program = ROOT / "benchmarks" / "make_samples.py"
    subprocess.run([sys.executable, program, tmp_path], check=True, capture_output=True)
    made = sorted(tmp_path.iterdir())
    assert [path.name for path in made] == ["orders_to_json.jsonl", "support_chats.jsonl"]
    for path in made:
        assert (ROOT / "presets" / "samples" / path.name).read_bytes() == path.read_bytes()
    assert sum(path.stat().st_size for path in made) < 400_000


def test_presets_list_both():
    assert [sample.id for sample in samples()] == ["orders_to_json", "support_chats"]
    assert all(sample.licence == "Apache-2.0" and sample.path.is_file() for sample in samples())
    assert [sample.checkable for sample in samples()] == ["exact_match", "none"]


@pytest.mark.parametrize(("sample", "rows"), [("orders_to_json", 480), ("support_chats", 200)])
def test_each_loads_without_a_problem(tmp_path, sample, rows):
    dataset = resolve_data(tmp_path, sample)
    assert dataset.sample == sample and dataset.sure and dataset.num_examples == rows
    assert [problem for problem in dataset.problems if problem.severity != "info"] == []
    assert create_from_sample(tmp_path, sample) == dataset


def test_each_order_follows_from_its_sentence(tmp_path):
    dataset = create_from_sample(tmp_path, "orders_to_json")
    sentences = set()
    for example in dataset.examples():
        sentence, answer = (message["content"] for message in example.messages)
        order = json.loads(answer)
        assert list(order) == ["customer", "item", "quantity", "size", "day"]
        words = set(re.findall(r"\w+", sentence))
        said = {word for value in order.values() for word in str(value).split()}
        assert said <= words and type(order["quantity"]) is int and "\n" not in answer
        sentences.add(sentence)
    assert len(sentences) == 480


def test_chats_take_turns_and_have_one_voice(tmp_path):
    dataset = create_from_sample(tmp_path, "support_chats")
    systems = {example.messages[0]["content"] for example in dataset.examples()}
    assert len(systems) == 1
    for example in dataset.examples():
        roles = [message["role"] for message in example.messages]
        assert roles in (["system"] + ["user", "assistant"] * turns for turns in (2, 3))
        assert all("{" not in message["content"] for message in example.messages)


def test_unknown_sample(tmp_path):
    with pytest.raises(UserError):
        create_from_sample(tmp_path, "nothing")
