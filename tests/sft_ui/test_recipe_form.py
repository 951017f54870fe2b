"""The form has every field of the recipe, and nothing else."""

from dataclasses import fields

import gradio as gr
import pytest

from sft_ui.recipe_form import (
    CHOICE_WORDS,
    CONDITIONAL,
    LABELS,
    SECTIONS,
    build_fields,
    form_values,
    read_form,
    relevance,
)
from trainer_backend.presets import recipe_from, recipe_presets
from trainer_backend.recipe import CHOICES, HELP, Recipe

NAMES = [field.name for field in fields(Recipe)]


def test_form_fields_are_the_recipe_fields():
    shown = [name for _, names in SECTIONS for name in names]
    assert sorted([*shown, "base_model"]) == sorted(NAMES)
    assert set(LABELS) == set(NAMES)


def test_every_field_is_built_with_a_label_and_a_sentence():
    with gr.Blocks():
        built = build_fields(Recipe())
    for name, component in built.items():
        assert component.label == LABELS[name] and component.info == HELP[name]


def test_every_choice_has_words():
    assert {choice for choices in CHOICES.values() for choice in choices} <= set(CHOICE_WORDS)


@pytest.mark.parametrize("preset", recipe_presets(), ids=lambda preset: preset.id)
def test_a_preset_survives_the_form(preset):
    recipe = recipe_from(preset.id)
    assert read_form(form_values(recipe)) == (recipe, [])


@pytest.mark.parametrize("value", ["abc", "1e9", "", None, "nan"])
def test_a_wrong_number_is_named_by_its_label(value):
    recipe, problems = read_form({**form_values(Recipe()), "learning_rate": value})
    assert recipe is None
    assert "“Learning rate”" in problems[0].what and problems[0].fix


def test_all_wrong_fields_are_told_at_once():
    values = {**form_values(Recipe()), "learning_rate": "abc", "max_length": None, "lora_r": 9999}
    assert len(read_form(values)[1]) == 3


def test_fields_without_effect_are_hidden():
    assert not relevance(Recipe(adapter="full"))["lora_r"]
    assert not relevance(Recipe(max_steps=5))["num_train_epochs"]
    assert relevance(Recipe())["lora_r"] and "learning_rate" not in CONDITIONAL
