"""The simple view of the form: few settings, those that are set, and a line that tells of them."""

import json
import re

import pytest

from sft_ui.model.form_view import EXPERT, set_line
from sft_ui.recipe_form import form_values
from trainer_backend.recipe.presets import recipe_from, recipe_presets
from trainer_backend.recipe.recipe import SETTINGS, Recipe


def told(line: str) -> list[str]:
    return json.loads(re.search(r"data-set='(.*?)'", line)[1].replace("&#34;", '"'))


def test_a_novice_sees_few_settings():
    simple = [name for name, one in SETTINGS.items() if not one.expert]
    assert len(simple) <= 10 and {"base_model", "adapter", "learning_rate"} <= set(simple)


def test_nothing_is_told_of_defaults():
    assert set_line(form_values(Recipe()), None) == ""


def test_what_is_set_by_hand_is_named_and_stays():
    values = {**form_values(recipe_from("quick_try")), "use_dora": True, "lora_r": 64}
    line = str(set_line(values, "quick_try"))
    assert told(line) == ["lora_r", "use_dora"]
    assert "2 expert settings are set: “LoRA rank”, “DoRA”." in line
    assert "1 expert setting is set" in set_line({"use_dora": True}, "quick_try")
    many = {name: "x" for name in EXPERT}
    assert f"and {len(EXPERT) - 4} more" in set_line(many, None)


@pytest.mark.parametrize("preset", recipe_presets(), ids=lambda preset: preset.id)
def test_a_presets_settings_are_counted_and_not_shown(preset):
    recipe = recipe_from(preset.id)
    line = str(set_line(form_values(recipe), preset.id))
    usual = Recipe().to_dict()
    set_here = [name for name in EXPERT if recipe.to_dict()[name] != usual[name]]
    if set_here:
        assert told(line) == [] and f"The preset sets {len(set_here)} expert" in line
    else:
        assert line == ""


def test_empty_fields_and_words_with_marks_are_text():
    line = str(set_line({"lora_r": None, "eos_token": "<b>' onclick"}, None))
    assert "<b>" not in line and told(line) == ["lora_r", "eos_token"]
