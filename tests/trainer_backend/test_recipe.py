"""Recipes: every field is checked and converted; what is wrong is said."""

import dataclasses

import pytest

from trainer_backend.errors import UserError
from trainer_backend.recipe import (
    CHOICES,
    HELP,
    LIMITS,
    Recipe,
    differences,
    effective_batch_size,
    is_relevant,
    load_recipe,
    save_recipe,
    total_steps,
)

FIELDS = {field.name: field.type for field in dataclasses.fields(Recipe)}


def test_every_field_has_a_sentence_and_every_number_a_limit():
    assert set(HELP) == set(FIELDS)
    assert all(text.endswith(".") for text in HELP.values())
    numbers = {
        name for name, kind in FIELDS.items() if kind in (int, float, float | str, int | str)
    }
    assert set(LIMITS) == numbers
    assert set(CHOICES) <= {name for name, kind in FIELDS.items() if kind is str}


def test_defaults_are_a_valid_recipe():
    assert Recipe.from_dict(Recipe().to_dict()) == Recipe()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"learning_rate": "1e-3"}, {"learning_rate": 1e-3}),
        ({"learning_rate": "auto"}, {"learning_rate": "auto"}),
        ({"max_steps": "20"}, {"max_steps": 20}),
        ({"max_steps": 20.0}, {"max_steps": 20}),
        ({"num_processes": "auto"}, {"num_processes": "auto"}),
        ({"num_processes": "2"}, {"num_processes": 2}),
        ({"packing": "true"}, {"packing": True}),
        ({"base_model": "  a/b "}, {"base_model": "a/b"}),
        ({"system_prompt": " kept as it is "}, {"system_prompt": " kept as it is "}),
    ],
)
def test_texts_of_forms_and_command_lines_become_values(values, expected):
    assert Recipe.from_dict(values) == dataclasses.replace(Recipe(), **expected)


@pytest.mark.parametrize(
    "values",
    [
        {"learning_rate": "abc"},
        {"learning_rate": 1e9},
        {"learning_rate": -1},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"learning_rate": True},
        {"max_steps": 0},
        {"max_steps": 2.5},
        {"per_device_train_batch_size": 0},
        {"per_device_train_batch_size": None},
        {"eval_fraction": 0.9},
        {"packing": "maybe"},
        {"adapter": "magic"},
        {"num_processes": 0},
        {"num_processes": 1.5},
        {"num_processes": "all"},
        {"distributed": "magic"},
        {"on_out_of_memory": "pray"},
        {"base_model": ""},
        {"base_model": 7},
        {"base_model": "a\0b"},
        {"max_lenght": 512},
        [1, 2],
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(values):
    with pytest.raises(UserError) as caught:
        Recipe.from_dict(values)
    assert caught.value.what and caught.value.where and caught.value.fix


def test_an_unknown_setting_is_named_with_the_known_ones():
    with pytest.raises(UserError) as caught:
        Recipe.from_dict({"max_lenght": 512})
    assert "max_lenght" in caught.value.what
    assert "max_length" in caught.value.fix


def test_a_recipe_file_says_the_same_after_saving_and_loading(tmp_path):
    recipe = Recipe(learning_rate=3e-5, system_prompt="Sei höflich: immer.", packing=True)
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_scientific_notation_in_a_recipe_file_is_a_number(tmp_path):
    (tmp_path / "r.yaml").write_text("learning_rate: 2e-4\n")
    assert load_recipe(tmp_path / "r.yaml").learning_rate == 2e-4


@pytest.mark.parametrize(
    "text", ["a: [1", "- just\n- a list\n", "max_steps: !!python/name:os.system\n"]
)
def test_a_broken_recipe_file_is_refused_with_its_place(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    assert str(path) in caught.value.where


def test_a_missing_recipe_file_is_refused(tmp_path):
    with pytest.raises(UserError):
        load_recipe(tmp_path / "none.yaml")


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
    assert total_steps(dataclasses.replace(recipe, max_steps=7), num_rows=100) == 7
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


def test_differences_name_both_values():
    assert differences(Recipe(seed=7), Recipe()) == {"seed": (42, 7)}
