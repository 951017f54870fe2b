"""The form has every field of the recipe, and nothing else."""

from collections import Counter

import gradio as gr
import pytest

from sft_ui.model.tab import build_model_tab
from sft_ui.recipe_form import CONDITIONAL, form_values, read_form, relevance
from sft_ui.theme import static_text
from trainer_backend.recipe.labels import label
from trainer_backend.recipe.presets import recipe_from, recipe_presets
from trainer_backend.recipe.recipe import SETTINGS, Recipe


def test_the_page_has_each_field_of_the_recipe_once(studio):
    with gr.Blocks() as page:
        tab = build_model_tab(studio)
    assert list(tab.fields) == list(SETTINGS)
    shown = [getattr(block, "elem_id", None) for block in page.blocks.values()]
    wanted = ["model-choice", *(f"field-{name}" for name in SETTINGS if name != "base_model")]
    assert Counter(i for i in shown if i in wanted) == Counter(wanted)
    labels = Counter(getattr(block, "label", None) for block in page.blocks.values())
    assert all(labels[one.label] == 1 for one in SETTINGS.values())


def test_every_field_is_built_from_its_place_in_the_table(studio):
    with gr.Blocks() as page:
        built = build_model_tab(studio).fields
    for name, component in built.items():
        setting = SETTINGS[name]
        assert component.label == setting.label and component.info == setting.help
        if setting.choices:
            assert component.choices == [(words, c) for c, words in setting.choices.items()]
    folds = [block for block in page.blocks.values() if isinstance(block, gr.Accordion)]
    titles = [fold.label for fold in folds if str(fold.elem_id).startswith("form-section-")]
    assert titles == list(dict.fromkeys(one.section for one in SETTINGS.values() if one.section))


def test_the_length_chart_calls_its_limit_as_the_form_does():
    for name in ("data/lengths/length_chart.html", "data/lengths/length_chart.js"):
        assert f"{label('max_length')}, in tokens" in static_text(name)


@pytest.mark.parametrize("preset", recipe_presets(), ids=lambda preset: preset.id)
def test_a_preset_survives_the_form(preset):
    recipe = recipe_from(preset.id)
    assert read_form(form_values(recipe)) == (recipe, [])


@pytest.mark.parametrize("value", ["abc", "1e9", "", None, "nan"])
def test_a_wrong_number_is_named_by_its_label(value):
    recipe, problems = read_form({**form_values(Recipe()), "learning_rate": value})
    assert recipe is None
    assert "“Learning rate”" in problems[0].what and problems[0].fix


def test_all_wrong_fields_are_reported_at_once():
    values = {**form_values(Recipe()), "learning_rate": "abc", "max_length": None, "lora_r": 9999}
    assert len(read_form(values)[1]) == 3


def test_fields_without_effect_are_hidden():
    assert not relevance(Recipe(adapter="full"))["lora_r"]
    assert not relevance(Recipe(max_steps=5))["num_train_epochs"]
    assert relevance(Recipe())["lora_r"] and "learning_rate" not in CONDITIONAL
