"""Recipes: every field is checked and converted; what is wrong is said."""

import dataclasses

import pytest

from trainer_backend.errors import UserError
from trainer_backend.recipe.labels import changed_to, label, named
from trainer_backend.recipe.recipe import SETTINGS, Recipe

FIELDS = {field.name: field.type for field in dataclasses.fields(Recipe)}


def test_every_field_has_a_sentence_and_every_number_a_limit():
    assert list(SETTINGS) == list(FIELDS)
    assert all(one.help.endswith(".") for one in SETTINGS.values())
    numbers = {
        name for name, kind in FIELDS.items() if kind in (int, float, float | str, int | str)
    }
    assert {name for name, one in SETTINGS.items() if one.limits} == numbers
    assert all(FIELDS[name] is str for name, one in SETTINGS.items() if one.choices)


def test_labels_are_short_words_of_the_field_and_no_two_are_the_same():
    labels = [one.label for one in SETTINGS.values()]
    assert len(set(labels)) == len(labels)
    assert all(one and len(one) <= 30 and one[0].isupper() for one in labels)
    words = [one.words(value) for one in SETTINGS.values() for value in one.choices]
    assert all(words) and "(" not in "".join(words)


def test_a_sentence_names_settings_as_the_form_does():
    assert label("report_to") == "Report to"
    assert label("distributed", "precision", "adapter") == (
        "Distributed training, Precision and Method"
    )
    assert named(["seed", "packing"]) == "“Seed” (seed), “Packing” (packing)"
    changes = {"adapter": "lora", "packing": True, "max_length": 512}
    assert changed_to(changes) == "“Method” to LoRA and “Packing” to on and “Maximum length” to 512"
    assert SETTINGS["system_prompt"].words("Be kind (and short).") == "Be kind (and short)."


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
