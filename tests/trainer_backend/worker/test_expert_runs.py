"""Expert settings in whole runs: trained, resumed, answered, exported and repeated."""

import json

import pytest
import torch
from run_files import ROWS
from same_device import logits_of
from small_runs import small_recipe, small_run, train_small
from transformers import AutoModelForCausalLM

from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.errors import UserError
from trainer_backend.evaluation.results import best_known
from trainer_backend.export.exporter import export_run
from trainer_backend.models.loaded.load import load_base, load_tuned
from trainer_backend.runs.create import new_run_from
from trainer_backend.serving.process.token_view import view_row
from trainer_backend.worker.arguments import training_arguments
from trainer_backend.worker.facts import RunFacts
from trainer_backend.worker.main import run_worker

MANY = {
    "init_lora_weights": "pissa",
    "use_rslora": True,
    "use_dora": True,
    "modules_to_save": "norm",
    "loraplus_lr_ratio": 4.0,
    "label_smoothing_factor": 0.1,
    "neftune_noise_alpha": 5.0,
    "adam_beta1": 0.8,
    "adam_beta2": 0.95,
    "last_turn_only": True,
    "truncation_mode": "keep_end",
    "extra_arguments": "adam_epsilon: 1e-6\nlr_scheduler_kwargs: {num_cycles: 0.25}",
}
IDS = torch.arange(5, 25)[None]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model_dir):
    """A finished run with nearly every expert setting, and an evaluation."""
    from trainer_backend.home import open_home

    home = open_home(tmp_path_factory.mktemp("expert"))
    dataset = create_from_rows(home, ROWS, name="numbers")
    return train_small(home, dataset, tiny_model_dir, answer_check_rows=2, **MANY)


def logits(model) -> torch.Tensor:
    return logits_of(model, IDS)


def test_every_setting_reaches_the_trainer(trained):
    given = training_arguments(RunFacts.load(trained), has_eval=True)
    for name in MANY:
        if hasattr(given, name):
            assert getattr(given, name) == MANY[name], name
    assert (given.adam_epsilon, given.lr_scheduler_kwargs) == (1e-6, {"num_cycles": 0.25})
    config = json.loads((trained.result().path / "adapter_config.json").read_text())
    assert config["r"] == 8 and config["init_lora_weights"] is True  # a plain adapter
    assert (
        config["use_rslora"] and config["use_dora"] and config["modules_to_save"] == ["model.norm"]
    )


def test_the_base_model_answers_as_it_does_without_an_adapter(trained, tiny_model_dir):
    plain = train_small(
        trained.home, trained.dataset(), tiny_model_dir, answer_check_rows=2, max_steps=1
    )
    answers = [[one.base for one in best_known(run).examples] for run in (trained, plain)]
    assert len(answers[0]) == 2 and answers[0] == answers[1]


def test_exports_say_what_the_run_says(trained, tiny_model_dir):
    tuned = load_tuned(trained.result().path, load_base(tiny_model_dir, "fp32"), "fp32")
    wanted, base = logits(tuned), logits(load_base(tiny_model_dir, "fp32"))
    assert (wanted - base).abs().max() > 0.1
    with tuned.disable_adapter():
        assert torch.equal(logits(tuned), base)
    merged = AutoModelForCausalLM.from_pretrained(export_run(trained, "merged"))
    assert torch.allclose(logits(merged), wanted, atol=1e-4)
    code = (export_run(trained, "script") / "train.py").read_text()
    for line in ("loraplus_lr_ratio=4.0", "adam_epsilon=1e-06", 'modules_to_save=["model.norm"]'):
        assert line in code


def test_more_steps_and_a_new_run_go_on_from_it(trained):
    again = new_run_from(trained, trained.recipe(), foreground=True)
    assert run_worker(again.dir) == 0, again.state()
    first = [next(r for r in run.metrics() if r["type"] == "metrics") for run in (trained, again)]
    assert first[1]["loss"] < first[0]["loss"]
    with pytest.raises(UserError, match="LoRA start values"):
        new_run_from(
            trained, type(trained.recipe())(**{**again.settings(), "init_lora_weights": "default"})
        )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"layers_to_transform": "0-9"}, "no layer 9"),
        ({"modules_to_save": "nothing"}, "no module “nothing”"),
        ({"extra_arguments": "dataloader_prefetch_factor: 2"}, "does not take"),
    ],
)
def test_what_the_model_does_not_have_is_told_before_the_first_step(
    home, dataset, tiny_model_dir, settings, said
):
    run = small_run(home, dataset, tiny_model_dir, **settings)
    assert run_worker(run.dir) == 2
    assert said in run.state()["error"]["what"] and not run.checkpoints()


def test_the_token_view_shows_what_is_kept_and_learned(home, tiny_model_dir):
    turns = [("user", "One"), ("assistant", "Two"), ("user", "Three"), ("assistant", "Four")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    stored = create_from_rows(home, [row] * 3, name="talk")
    facts = {"base_model": str(tiny_model_dir), "last_turn_only": True}
    view = view_row(home, stored.id, 1, small_recipe(tiny_model_dir, **facts | {"max_length": 512}))
    text = "".join(token["text"] for token in view["tokens"] if token["learned"])
    assert text.startswith("Four") and "Two" not in text
    facts |= {"truncation_mode": "keep_end", "max_length": 12}
    view = view_row(home, stored.id, 1, small_recipe(tiny_model_dir, **facts))
    cut = [token["cut"] for token in view["tokens"]]
    assert cut == [True] * view["cut"] + [False] * 12
