"""What a recipe becomes on a machine: automatic values, changes with a note, refusals in words."""

from dataclasses import replace

import pytest

from trainer_backend.errors import UserError
from trainer_backend.hardware import Hardware
from trainer_backend.recipe.labels import label
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.recipe.resolve import (
    check_recipe,
    effective_batch_size,
    is_relevant,
    num_processes,
    resolve,
    total_steps,
)

CPU = Hardware("cpu", "CPU", 1, 24.0, 20.0, 2, False)
CPU_BF16 = Hardware("cpu", "CPU", 1, 24.0, 20.0, 2, True)
T4 = Hardware("cuda", "T4", 1, 16.0, 15.0, 8, False)
H100 = Hardware("cuda", "H100", 1, 80.0, 79.0, 26, True)
APPLE = Hardware("mps", "Apple GPU", 1, 16.0, 9.0, 8, True)


@pytest.mark.parametrize(
    ("asked", "machine", "expected", "noted"),
    [
        ({"precision": "auto"}, CPU, "fp32", False),
        ({"precision": "auto"}, CPU_BF16, "bf16", False),
        ({"precision": "auto"}, APPLE, "fp32", False),
        ({"precision": "auto"}, H100, "bf16", False),
        ({"precision": "auto"}, T4, "fp16", True),
        ({"precision": "fp16"}, CPU, "fp32", True),
        ({"precision": "fp16"}, APPLE, "fp32", True),
        ({"precision": "bf16"}, T4, "fp16", True),
        ({"precision": "bf16"}, CPU, "fp32", True),
        ({"precision": "bf16"}, CPU_BF16, "bf16", False),
        ({"precision": "bf16"}, H100, "bf16", False),
        ({"adapter": "qlora"}, CPU, "int4", False),
        ({"adapter": "qlora", "precision": "int8"}, H100, "int8", False),
        ({"adapter": "qlora", "precision": "bf16"}, H100, "int4", True),
        ({"adapter": "lora", "precision": "int4"}, CPU, "int4", False),
    ],
)
def test_precision(asked, machine, expected, noted):
    recipe, notes = resolve(Recipe.from_dict(asked), machine)
    assert recipe.precision == expected
    assert bool(notes) is noted


@pytest.mark.parametrize(("adapter", "rate"), [("lora", 2e-4), ("qlora", 2e-4), ("full", 2e-5)])
def test_the_learning_rate_follows_the_method(adapter, rate):
    assert resolve(Recipe(adapter=adapter), CPU)[0].learning_rate == rate
    assert resolve(Recipe(adapter=adapter, learning_rate=1e-3), CPU)[0].learning_rate == 1e-3


@pytest.mark.parametrize(
    ("optim", "machine", "expected"),
    [
        ("paged_adamw_8bit", CPU, "adamw_bnb_8bit"),
        ("paged_adamw_8bit", H100, "paged_adamw_8bit"),
        ("adamw_bnb_8bit", APPLE, "adamw_torch"),
        ("adafactor", CPU, "adafactor"),
    ],
)
def test_optimizers_that_need_a_device_are_exchanged(optim, machine, expected):
    recipe, notes = resolve(Recipe(optim=optim), machine)
    assert recipe.optim == expected
    assert bool(notes) is (optim != expected)


@pytest.mark.parametrize(
    "values",
    [
        {"adapter": "full", "precision": "int4"},
        {"adapter": "full", "precision": "int8"},
        {"adapter": "full", "base_model": "unsloth/llama-2-7b-bnb-4bit"},
    ],
)
def test_full_training_of_a_quantised_model_is_refused(values):
    recipe = Recipe.from_dict(values)
    with pytest.raises(UserError):
        resolve(recipe, H100)
    assert [problem.severity for problem in check_recipe(recipe, H100)] == ["error"]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"adapter": "qlora"}, "4 or 8 bits"),
        ({"precision": "int8"}, "4 or 8 bits"),
        ({"precision": "int4"}, "4 or 8 bits"),
        ({"base_model": "unsloth/llama-2-7b-bnb-4bit"}, "4 or 8 bits"),
        ({"optim": "paged_adamw_8bit"}, "paged_adamw_8bit"),
        ({"optim": "adamw_bnb_8bit"}, "adamw_bnb_8bit"),
        ({"optim": "adafactor"}, "adafactor"),
    ],
)
def test_what_a_model_in_shares_cannot_do_is_refused_before_the_start(values, named):
    two = replace(H100, num_devices=2)
    with pytest.raises(UserError, match=named) as refused:
        resolve(Recipe.from_dict({**values, "distributed": "fsdp"}), two)
    assert label("distributed") in refused.value.where and refused.value.fix
    assert check_recipe(Recipe.from_dict(values), two) == []
    assert check_recipe(Recipe(distributed="fsdp"), two) == []


def test_a_refusal_names_the_settings_as_the_form_does(monkeypatch):
    monkeypatch.setattr("trainer_backend.recipe.resolve.find_spec", lambda package: None)
    for values, where in (
        ({"report_to": "wandb"}, "Report to"),
        ({"adapter": "full", "precision": "int4"}, "Precision and Method"),
        ({"adapter": "full", "base_model": "a/b-bnb-4bit"}, "Base model and Method"),
        ({"num_processes": 9}, "Training processes; H100"),
    ):
        problems = check_recipe(Recipe.from_dict(values), H100)
        assert [problem.where.split(" ·")[0] for problem in problems] == [where]


def test_one_process_has_nobody_to_share_a_model_with():
    problems = check_recipe(Recipe(distributed="fsdp"), H100)
    assert [problem.severity for problem in problems] == ["warning"]
    assert "FSDP needs two or more" in problems[0].what


def test_changes_are_told_before_the_start_too():
    problems = check_recipe(Recipe(precision="fp16"), CPU)
    assert [problem.severity for problem in problems] == ["warning"]
    assert "fp16" in problems[0].what


def test_a_missing_logger_is_refused_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr("trainer_backend.recipe.resolve.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install"):
        resolve(Recipe(report_to="wandb"), CPU)


def test_one_process_a_gpu_unless_the_recipe_says_otherwise():
    two = replace(T4, num_devices=2)
    assert num_processes(Recipe(), two) == 2
    assert num_processes(Recipe(num_processes=1), two) == 1
    assert num_processes(Recipe(), CPU) == 1 and num_processes(Recipe(num_processes=2), CPU) == 2


def test_more_processes_than_gpus_are_refused():
    with pytest.raises(UserError, match="3 training processes need 3 devices"):
        resolve(Recipe(num_processes=3), replace(T4, num_devices=2))
    with pytest.raises(UserError, match="2 training processes need 2 devices"):
        resolve(Recipe(num_processes=2), APPLE)
    with pytest.raises(UserError, match="1024 training processes need 1024 processor cores"):
        resolve(Recipe(num_processes=1024), CPU)


def test_derived_numbers():
    recipe = Recipe(
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        num_train_epochs=3,
        max_steps=-1,
    )
    assert effective_batch_size(recipe) == 8
    assert effective_batch_size(recipe, num_devices=2) == 16
    assert total_steps(recipe, num_rows=100) == 13 * 3
    assert total_steps(replace(recipe, max_steps=7), num_rows=100) == 7
    assert total_steps(recipe, num_rows=1) == 3


def test_only_settings_with_an_effect_are_relevant():
    full = Recipe(adapter="full", max_steps=10, eval_fraction=0.0)
    assert not is_relevant("lora_r", full)
    assert not is_relevant("num_train_epochs", full)
    assert not is_relevant("eval_steps", full)
    assert is_relevant("lora_r", Recipe()) and is_relevant("learning_rate", full)


def test_processes_matter_only_where_there_are_several_devices():
    for name in ("num_processes", "distributed"):
        assert not is_relevant(name, Recipe()) and is_relevant(name, Recipe(), num_devices=2)
