"""Choosing a model: its wishes are applied, undone with the next one, and never the user's."""

import pytest

from sft_ui.model import model_events
from sft_ui.model.basis import Basis
from sft_ui.model.card import in_short, model_card
from sft_ui.model.cards.settings_cards import settings_cards
from sft_ui.model.choice import Chosen, fitted, preset_recipe, restored_wishes, words_of
from sft_ui.model.search import hub_list, local_list, same_model
from sft_ui.recipe_form import form_values
from trainer_backend.errors import Problem
from trainer_backend.models import ModelFacts, hub_answers, model_facts
from trainer_backend.recipe.presets import recipe_from
from trainer_backend.recipe.recipe import STARTER_MODEL

STORED = "unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit"
FORM = form_values(recipe_from("quick_try"))


def take(studio, base_model, chosen, values):
    """The form and what is chosen after a model was taken."""
    facts = model_facts(studio.home, base_model)
    changed, wishes = fitted("quick_try", facts, chosen.wishes, values)
    return {**values, **changed, "base_model": base_model}, Chosen(base_model, wishes)


def test_a_stored_model_sets_its_method_and_the_next_one_undoes_it(studio):
    form, chosen = take(studio, STORED, Chosen(STARTER_MODEL), FORM)
    assert (form["adapter"], form["precision"]) == ("qlora", "int4")
    facts = model_facts(studio.home, STORED)
    assert "stored in 4 bits, so Method" in words_of("quick_try", facts, chosen.wishes)[0]
    assert "match the preset" in settings_cards(studio, "", "quick_try", Basis(), form)
    form, chosen = take(studio, STARTER_MODEL, chosen, form)
    assert form == FORM and chosen.wishes == {}


def test_what_the_user_set_stays(studio):
    mine = {**FORM, "precision": "bf16"}
    form, chosen = take(studio, STORED, Chosen(STARTER_MODEL), mine)
    assert (form["adapter"], form["precision"]) == ("qlora", "bf16")
    form["adapter"] = "full"  # set after the model was chosen
    form, chosen = take(studio, STARTER_MODEL, chosen, form)
    assert (form["adapter"], form["precision"]) == ("full", "bf16")


def test_a_reload_knows_which_settings_were_the_models(studio):
    facts = model_facts(studio.home, STORED)
    form = form_values(preset_recipe("quick_try", STORED, studio.home))
    wishes = restored_wishes("quick_try", facts, form)
    assert set(wishes) == {"adapter", "precision"}
    assert fitted("quick_try", model_facts(studio.home, STARTER_MODEL), wishes, form)[0] == {
        "adapter": "lora",
        "precision": "auto",
    }


def test_a_folder_is_known_by_its_own_files(studio, tiny_model_dir):
    form, chosen = take(studio, str(tiny_model_dir), Chosen(STARTER_MODEL), FORM)
    assert chosen.wishes == {}  # 512 positions, as long as the preset's rows
    balanced = preset_recipe("balanced", str(tiny_model_dir), studio.home)
    assert balanced.max_length == 512 < recipe_from("balanced").max_length


def test_the_card_says_what_a_base_model_without_a_template_means():
    facts = ModelFacts("o/m", "hub", chat_template=False, instruct=False, download_bytes=3 * 2**30)
    card = model_card(facts, [], [])
    assert "plain one is added" in card and "was not trained to answer" in card
    assert "3.0 GB to download" in card and "no chat template" in card


def test_the_card_escapes_and_offers_models_that_are_here(hostile):
    problem = Problem("error", hostile, hostile, hostile, code="model_format")
    card = model_card(ModelFacts(hostile, "hub", problem=problem, licence=hostile), [], [hostile])
    assert "<script>" not in card and "<img" not in card
    assert f'data-use="{STARTER_MODEL}"' in card
    refused = model_card(model_facts_of_text("not a model"), [], ["own/one"])
    assert "an id has no spaces" in refused and 'data-use="own/one"' in refused


def model_facts_of_text(text):
    from pathlib import Path

    return model_facts(Path("/nonexistent"), text)


def test_the_lists_say_how_large_a_model_is_and_whether_it_fits(studio):
    recipe = recipe_from("quick_try")
    listed = local_list(studio.home, "llama 8b", recipe)
    assert f'data-choose="{STORED}"' in listed and "5.3 GB" in listed and "8B" in listed
    assert 'class="fit ' in listed and listed.count('role="option"') == 1
    assert "cannot be reached" in hub_list(studio.home, "llama", recipe)
    assert hub_list(studio.home, "l", recipe) == hub_list(studio.home, "/models/x", recipe) == ""


def test_a_title_typed_stands_for_its_id():
    assert same_model(" qwen3 0.6b ") == "Qwen/Qwen3-0.6B" and same_model("") == ""


@pytest.mark.parametrize(
    "count, text", [(134_515_008, "135M"), (8_030_261_248, "8B"), (900, "900")]
)
def test_parameters_are_said_in_short(count, text):
    assert in_short(count) == text


def test_the_hub_is_asked_once_the_model_was_taken(studio, monkeypatch):
    """The answer may change the form: here it says that the weights are stored in 4 bits."""
    config = {"model_type": "llama", "quantization_config": {"load_in_4bit": True}}
    files = {"config.json": 1, "tokenizer.json": 1, "model.safetensors": 5}
    answer = hub_answers.HubAnswer("o/m", "2026-11-28", files=files, config=config)
    hub_answers.keep_answer(studio.home, answer)
    facts = model_facts(studio.home, "o/m")
    events = type("Events", (), {"studio": studio, "fields": dict.fromkeys(FORM)})
    form = {**FORM, "base_model": "o/m"}
    card, chosen, *updates = model_events._filled(events, facts, "quick_try", Chosen("o/m"), form)
    found = dict(zip(FORM, updates, strict=True))
    assert found["adapter"]["value"] == "qlora" and chosen.asked and "4 bits" in card
