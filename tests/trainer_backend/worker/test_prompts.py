"""Whether held-out rows are asked as they were trained, and what a run does to templates."""

import ast
import shutil
from dataclasses import replace

import pytest
from gguf import GGUFReader
from small_runs import small_run, train_small

from trainer_backend.export.exporter import export_run
from trainer_backend.models.loaded.load import load_tokenizer
from trainer_backend.tokens.templates.training import is_training_template
from trainer_backend.worker.arguments import training_arguments
from trainer_backend.worker.facts import RunFacts

# asks with a word that finished answers lack, which opens no thought
OTHERWISE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\nSure: ' }}{% endif %}"
)
OPENED = OTHERWISE.replace("Sure: ", "<think>\n")


@pytest.fixture
def model_with(tmp_path, tiny_model_dir):
    """A copy of the tiny model whose tokenizer has another template."""

    def make(template: str):
        folder = tmp_path / "model"
        shutil.copytree(tiny_model_dir, folder)
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        return folder

    return make


@pytest.mark.parametrize(("template", "all_alike"), [(OTHERWISE, False), (OPENED, True)])
def test_prompts_are_measured_on_held_out_rows(home, dataset, model_with, template, all_alike):
    run = train_small(home, dataset, model_with(template), max_steps=1, eval_fraction=0.2)
    state = run.summary()
    rows = state["num_eval_rows"]
    assert state["prompts"] == {"rows": rows, "prefix": rows if all_alike else 0}
    warned = [one for one in state["warnings"] if "another beginning" in one]
    assert len(warned) == (not all_alike) and all("rows" in one for one in warned)


def test_a_checkpoint_keeps_the_template_it_was_trained_with(home, dataset, tiny_model_dir):
    run = train_small(
        home, dataset, tiny_model_dir, max_steps=1, chat_template="training", thinking="off"
    )
    state = run.summary()
    assert state["prompts"]["prefix"] == state["prompts"]["rows"] > 0
    assert any("no thinking switch" in one for one in state["warnings"])
    tokenizer = load_tokenizer(run.checkpoints()[-1].path)
    assert is_training_template(tokenizer.chat_template)


def test_an_own_template_is_kept_in_every_export(home, dataset, tiny_model_dir):
    own = OTHERWISE.replace("Sure: ", "")
    run = train_small(home, dataset, tiny_model_dir, max_steps=1, chat_template=own)
    assert run.recipe().chat_template == own
    for format in ("adapter", "merged"):
        assert load_tokenizer(export_run(run, format)).chat_template == own
    (file,) = export_run(run, "gguf").glob("*.gguf")
    field = GGUFReader(file).fields["tokenizer.chat_template"]
    assert field.contents() == own
    script = (export_run(run, "script") / "train.py").read_text(encoding="utf-8")
    settings = next(one for one in ast.walk(ast.parse(script)) if is_call_of(one, "SFTConfig"))
    given = {one.arg: one.value for one in settings.keywords}
    assert ast.literal_eval(given["chat_template"]) == own


def is_call_of(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == name


def test_a_model_without_a_training_template_is_refused(home, dataset, model_with):
    from trainer_backend.worker.main import run_worker

    backwards = "{% for m in messages %}{{ m['content'][::-1] }}{% endfor %}"
    run = small_run(home, dataset, model_with(backwards), chat_template="training")
    assert run_worker(run.dir) == 2
    error = run.state()["error"]
    assert "no training template" in error["what"] and "“Chat template”" in error["fix"]


def test_a_run_of_an_earlier_version_is_rendered_as_it_began(run):
    facts = RunFacts.load(run)
    today = training_arguments(facts, has_eval=False)
    assert not today.as_written and today.template_date == facts.started_on
    began = replace(facts, spec={**facts.spec, "began_format": 1})
    assert training_arguments(began, has_eval=False).as_written
