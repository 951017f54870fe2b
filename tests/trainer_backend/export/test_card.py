"""The README.md of an export: metadata the Hub understands, and code to use the files."""

import subprocess
import sys

import pytest
from evaluated import evaluation
from huggingface_hub import ModelCard

from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.evaluation import shown
from trainer_backend.evaluation.results import keep
from trainer_backend.export.card import MADE_BY, model_card
from trainer_backend.home import open_home
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.checkpoints import commit
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


def test_a_card_shows_the_evaluation_of_the_exported_checkpoint(run):
    for step in (2, 4):
        folder = run.dir / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        commit(folder, step, None, run.id)
    one = evaluation(run, 4, harness={"arc": {"acc": {"base": 0.25, "tuned": 0.5, "stderr": 0.1}}})
    keep(run, one)
    keep(run, evaluation(run, 4, held_out=False, sentence="Other rows."))
    card = ModelCard(model_card(run, "adapter", "adapter"))
    assert "It learned its training rows by heart. Better: Exact match 12.5% → 50%." in card.text
    assert "On 8 held-out rows of numbers, checkpoint 4. Verdict: better." in card.text
    for line in shown.lines(one):
        assert f"| {line.label} | {line.base} | {line.tuned} | {line.interval} |" in card.text
    assert "| arc | acc | 0.2500 | 0.5000 | 0.1000 |" in card.text
    results = {each.metric_type: each for each in card.data.eval_results}
    assert {name: each.metric_value for name, each in results.items()} == {
        name: metric.tuned for name, metric in one.metrics.items()
    }
    assert results["loss"].dataset_name == "numbers"
    assert "## Evaluation" not in model_card(run, "adapter", "adapter", 2)
    assert "## Evaluation" not in model_card(run, "script", "script")
