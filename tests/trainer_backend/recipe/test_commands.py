"""The printed command makes the same recipe, and the printed Python the same training."""

import subprocess
from dataclasses import replace

import pytest

from trainer_backend.__main__ import build_parser
from trainer_backend.cli.data import chosen_settings
from trainer_backend.data.store import create_from_rows
from trainer_backend.hardware import Hardware, hardware
from trainer_backend.recipe.commands import Chosen, command_line, python_script
from trainer_backend.recipe.presets import recipe_from, resolve_recipe
from trainer_backend.recipe.recipe import Recipe

CPU = Hardware("cpu", "CPU", 1, 24.0, 20.0, 2, False)
HARD = 'Say "hi" to $USER;\nnever `rm -rf`, O\'Neill = 5 % <|im_end|> \\ ß'
RECIPES = [
    recipe_from("balanced"),
    recipe_from("quick_try", base_model="/models/my model's", seed=7),
    recipe_from("low_memory", system_prompt=HARD, packing=True, warmup_steps=10),
    recipe_from("full_finetune", learning_rate=1e-5, assistant_only_loss=False, eval_steps=0),
    recipe_from(
        *("careful",),
        **{"lora_target_modules": "q_proj, v_proj", "eos_token": "<|end|>", "use_dora": True},
        **{"truncation_mode": "keep_end", "extra_arguments": "adam_epsilon: 1e-6"},
        **{"init_lora_weights": "pissa", "loraplus_lr_ratio": 16.0, "neftune_noise_alpha": 5.0},
    ),
]
PRESETS = ("balanced", "quick_try", "low_memory", "full_finetune", "careful")


def chosen(recipe: Recipe, preset: str = "balanced", **more) -> Chosen:
    return Chosen(recipe, preset, "0123456789abcdef", "Orders & 'more'.csv", **more)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("recipe", RECIPES, ids=PRESETS)
def test_the_command_makes_the_same_recipe(recipe, preset):
    line = command_line(chosen(recipe, preset))
    words = subprocess.check_output(["sh", "-c", f"printf '%s\\0' {line}"], text=True).split("\0")
    assert words[:3] == ["python", "-m", "trainer_backend"]
    given = build_parser().parse_args(words[3:-1])
    base, found = resolve_recipe(given.recipe)
    made = Recipe.from_dict({**base.to_dict(), **chosen_settings(given)}, "--set")
    assert made == recipe and found.id == preset
    assert given.data == "0123456789abcdef" and given.name.endswith(" on Orders & 'more'.csv")


def test_the_command_names_only_what_differs():
    line = command_line(chosen(recipe_from("balanced", packing=True)))
    assert line.count("--set") == 1 and "--set packing=true" in line


@pytest.mark.parametrize("recipe", RECIPES, ids=PRESETS)
def test_the_python_can_be_read_and_says_what_it_leaves_out(recipe):
    text = python_script(chosen(replace(recipe, answer_check_rows=4, load_best_at_end=True)), CPU)
    compile(text, "script", "exec")
    assert "“Evaluation rows” (answer_check_rows)" in text and "“Best checkpoint" in text
    assert "Only in the app" not in python_script(chosen(RECIPES[0]), CPU)
    assert ("LoraConfig" in text) is (recipe.adapter != "full")


class Caught(Exception):
    """Raised in place of training, with the arguments of the trainer."""


@pytest.mark.parametrize("recipe", RECIPES, ids=PRESETS)
def test_the_python_trains_with_the_arguments_of_a_worker(
    recipe, tmp_path, tiny_model, tiny_model_dir, monkeypatch
):
    import trainer_backend
    from trainer_backend.home import open_home
    from trainer_backend.recipe.resolve import resolve
    from trainer_backend.runs import create_run
    from trainer_backend.training.lora.config import lora_config
    from trainer_backend.worker.arguments import training_arguments, training_rows
    from trainer_backend.worker.facts import RunFacts

    precision = "fp32" if recipe.adapter != "qlora" else "int4"
    eos = "<|im_end|>" if recipe.eos_token else ""
    recipe = replace(recipe, base_model=str(tiny_model_dir), precision=precision, eos_token=eos)
    home = open_home(tmp_path / "home")
    rows = [{"prompt": f"Question {n}", "response": f"Answer {n}"} for n in range(40)]
    data = create_from_rows(home, rows, name="Forty\nrows")
    facts = RunFacts.load(create_run(home, recipe, data))
    facts = replace(facts, recipe=resolve(recipe, hardware())[0])
    given = chosen(recipe)
    given = replace(given, dataset_id=data.id, dataset_name=data.name)
    caught = {}

    def caught_instead(**arguments):
        caught.update(arguments)
        raise Caught

    monkeypatch.setattr(trainer_backend, "SFTTrainer", caught_instead, raising=False)
    monkeypatch.setenv("SFT_STUDIO_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Caught):
        exec(python_script(given, hardware()), {"__name__": "script"})
    train, held_out = training_rows(facts)
    assert caught["train_dataset"].to_list() == train.to_list()
    assert caught["eval_dataset"].to_list() == held_out.to_list()
    wanted = lora_config(facts.recipe, caught["model"])
    assert (caught["peft_config"] is None) is (wanted is None)
    if wanted:
        assert caught["peft_config"].to_dict() == wanted.to_dict()
    mine, theirs = caught["args"].to_dict(), training_arguments(facts, True).to_dict()
    own = {"output_dir", "logging_dir", "run_name", "template_date", "disable_tqdm", "eval_steps"}
    own |= {"eval_strategy", "save_steps", "save_strategy", "logging_first_step", "do_eval"}
    own |= {"logging_nan_inf_filter", "fsdp", "save_total_limit"}
    assert {k: v for k, v in mine.items() if k not in own} == {
        k: v for k, v in theirs.items() if k not in own
    }
    for name in ("eval_steps", "eval_strategy", "save_steps"):
        assert not recipe.eval_steps or mine[name] == theirs[name]


def test_the_python_trains_a_tiny_model(tmp_path, tiny_model_dir, monkeypatch):
    from trainer_backend.home import open_home

    home = open_home(tmp_path / "home")
    rows = [{"prompt": f"Question {n}", "response": f"Answer {n}"} for n in range(30)]
    data = create_from_rows(home, rows, name="Thirty")
    recipe = recipe_from("quick_try", base_model=str(tiny_model_dir), max_steps=2, precision="fp32")
    given = Chosen(recipe, "quick_try", data.id, data.name)
    monkeypatch.setenv("SFT_STUDIO_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    exec(python_script(given, hardware()), {"__name__": "script"})
    assert (tmp_path / "output" / "final" / "adapter_model.safetensors").is_file()
