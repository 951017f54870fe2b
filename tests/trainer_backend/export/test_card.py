"""The README.md of an export: metadata the Hub understands, and code to use the files."""

import subprocess
import sys

import pytest
from huggingface_hub import ModelCard

from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.export.card import MADE_BY, model_card
from trainer_backend.home import open_home
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import create_run


@pytest.fixture
def make_card(tmp_path):
    home = open_home(tmp_path / "home")
    dataset = create_from_rows(home, [{"prompt": "a", "response": "b"}] * 40, name="Letters")

    def make(format, **settings):
        run = create_run(home, Recipe(**settings), dataset, name="My: run")
        return model_card(run, format, format)

    return make


@pytest.mark.parametrize(
    "format, library, call",
    [
        ("adapter", "peft", "AutoPeftModelForCausalLM.from_pretrained(folder)"),
        ("merged", "transformers", "AutoModelForCausalLM.from_pretrained(folder)"),
        ("gguf", "gguf", "llama-cli"),
    ],
)
def test_a_card_has_what_the_hub_reads_and_what_people_need(make_card, format, library, call):
    card = ModelCard(make_card(format, base_model="org/base-1b"))
    assert card.data.to_dict() == {
        "base_model": "org/base-1b",
        "library_name": library,
        "pipeline_tag": "text-generation",
    }
    assert card.text.startswith("\n# My: run\n\nBase model: org/base-1b. Data: Letters, 40 rows. ")
    assert MADE_BY in card.text and call in card.text


def test_the_hub_is_not_told_a_folder_of_this_machine(make_card, tiny_model_dir):
    card = ModelCard(make_card("adapter", base_model=str(tiny_model_dir)))
    assert card.data.to_dict() == {"library_name": "peft", "pipeline_tag": "text-generation"}


def test_a_script_is_no_model_and_has_no_metadata(make_card):
    assert make_card("script").startswith("# My: run\n")


def test_writing_a_card_needs_no_torch():
    code = (
        "import sys, trainer_backend.export.card, trainer_backend.models.snippets\n"
        "print([m for m in ('torch', 'transformers', 'peft') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
