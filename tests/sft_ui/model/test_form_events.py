"""The form's events as functions: own data, presets, the fix, back to the preset, files, runs."""

from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import yaml

from sft_ui.model import form_events
from sft_ui.model.basis import Basis
from sft_ui.model.cards.settings_cards import settings_cards
from sft_ui.model.form_events import FormEvents
from sft_ui.model.recipe_files.travel import (
    download_value,
    file_name,
    taken_from_file,
    taken_from_run,
)
from sft_ui.model.tab import about_preset, build_model_tab
from sft_ui.recipe_form import form_values
from sft_ui.train.next_run_card.next_run import Asked, start_state
from tests.sft_ui.model.cards.test_estimate_card import FITS, TOO_LARGE
from trainer_backend.data.store import create_from_sample
from trainer_backend.data.store.length_report import LengthReport
from trainer_backend.errors import UserError
from trainer_backend.home import write_json
from trainer_backend.recipe import Recipe, recipe_from

QLORA_MODEL = "unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit"
QUICK = recipe_from("quick_try")
START = Basis(base_model=QUICK.base_model).to_dict()


@pytest.fixture
def counted():
    """Where a test puts the counted lengths."""
    return {}


@pytest.fixture
def events(studio, counted):
    with gr.Blocks():
        tab = build_model_tab(studio)
    return FormEvents(studio, tab, lambda dataset_id, values: counted.get(dataset_id))


def applied(events, values, updates):
    """(preset, basis, form values) after the updates of a handler."""
    preset, basis, *fields = updates
    after = dict(values)
    for name, update in zip(events.tab.fields, fields, strict=True):
        if isinstance(update, dict) and "value" in update:
            after[name] = update["value"]
    return preset, basis, after


def lengths_of(*totals):
    arrays = [np.array(totals, np.int32)] * 4
    return LengthReport(np.arange(len(totals)), *arrays)


def test_own_data_selects_balanced_and_its_numbers(events, dataset, counted):
    values = {**form_values(QUICK), "seed": 5}
    preset, basis, after = applied(
        events, values, events.adapt(dataset.id, "quick_try", START, **values)
    )
    assert preset == "balanced" and after["max_steps"] == -1 and after["seed"] == 5
    assert after["num_train_epochs"] == basis["settings"]["num_train_epochs"] > 3
    counted[dataset.id] = lengths_of(*[150] * 60)
    _, basis, after = applied(events, after, events.adapt(dataset.id, "balanced", basis, **after))
    assert after["max_length"] == 192
    html = settings_cards(events.studio, dataset.id, "balanced", Basis(**basis), after)
    assert f"Epochs {after['num_train_epochs']:g}: you have only " in html
    assert "1 setting differs from the preset" in html and 'data-back="seed"' in html
    again = events.adapt(dataset.id, "balanced", basis, **after)
    assert applied(events, after, again)[2] == after


def test_the_length_ends_where_the_memory_does(events, dataset, counted, monkeypatch):
    counted[dataset.id] = lengths_of(*[7_000] * 60)
    asked = []

    def estimated(studio, dataset_id, recipe, lengths):
        asked.append(recipe.max_length)
        return FITS if recipe.max_length <= most else TOO_LARGE

    monkeypatch.setattr(form_events, "estimate_now", estimated)
    values = form_values(QUICK)
    for most, wanted in ((2_000, 1_728), (9_000, 7_040), (10, 7_040)):
        _, basis, after = applied(
            events, values, events.adapt(dataset.id, "quick_try", START, **values)
        )
        assert after["max_length"] == wanted and len(asked) < 25
        assert ("fit into memory" in basis["reasons"]["max_length"]) is (most == 2_000)


def test_a_sample_keeps_quick_try_and_an_own_choice_is_kept(events, studio, dataset):
    sample = create_from_sample(studio.home, "orders_to_json")
    values = form_values(QUICK)
    preset, basis, after = applied(
        events, values, events.adapt(sample.id, "quick_try", START, **values)
    )
    assert after == values and basis["settings"] == {}
    _, basis, after = applied(events, values, events.fill(sample.id, "careful", START, **values))
    assert after["lora_r"] == 8 and basis["own_preset"]
    preset, *_ = events.adapt(dataset.id, "careful", basis, **after)
    assert preset != "balanced"


def test_a_model_brings_its_wishes_and_takes_them_away(events):
    values = {**form_values(QUICK), "base_model": QLORA_MODEL}
    _, basis, after = applied(events, values, events.adapt("", "quick_try", START, **values))
    assert (after["adapter"], after["precision"]) == ("qlora", "int4")
    html = settings_cards(events.studio, "", "quick_try", Basis(**basis), after)
    assert "All settings match the preset." in html
    after["base_model"] = QUICK.base_model
    _, _, after = applied(events, after, events.adapt("", "quick_try", basis, **after))
    assert (after["adapter"], after["precision"]) == ("lora", "auto")


def test_the_fix_is_applied(events, monkeypatch):
    monkeypatch.setattr(form_events, "estimate_now", lambda *args: TOO_LARGE)
    values = form_values(recipe_from("full_finetune"))
    _, _, after = applied(events, values, events.fix("", "full_finetune", START, **values))
    assert (after["adapter"], after["per_device_train_batch_size"]) == ("lora", 1)
    monkeypatch.setattr(form_events, "estimate_now", lambda *args: FITS)
    assert applied(events, values, events.fix("", "x", START, **values))[2] == values


@pytest.mark.parametrize("field, left", [("seed", {"packing": True}), (None, {})])
def test_one_setting_or_all_go_back_to_the_preset(events, field, left):
    values = {**form_values(QUICK), "seed": 5, "packing": True}
    event = SimpleNamespace(**({"field": field} if field else {}))
    _, _, after = applied(events, values, events.back(event, "", "quick_try", START, **values))
    assert after == {**form_values(QUICK), **left}


def test_differences_are_in_words(studio):
    values = form_values(replace(QUICK, load_best_at_end=True, eval_steps=3.0, max_steps=-1))
    html = settings_cards(studio, "", "quick_try", Basis(), values)
    assert "True" not in html and "3.0" not in html and ">-1<" not in html
    assert "<span>on</span>" in html and "no limit" in html and "Reset all" in html


def test_a_preset_says_its_time_as_estimated():
    assert "about 2 to 5 minutes" in about_preset("quick_try", FITS)
    assert "minute" not in about_preset("quick_try") and about_preset("gone") == ""


def test_a_recipe_goes_out_and_comes_back(events, tmp_path):
    recipe = replace(QUICK, seed=5, base_model="/models/Käse 7B", system_prompt="Ja: immer.")
    assert file_name(recipe, "quick_try") == "quick_try-K-se-7B.yaml"
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe.to_dict()), encoding="utf-8")
    assert yaml.safe_load(yaml.safe_load(download_value(recipe, "quick_try"))["text"]) == (
        recipe.to_dict()
    )
    taken = taken_from_file(str(path))
    values = form_values(Recipe())
    preset, basis, after = applied(events, values, events.take(taken, START, values))
    assert after == form_values(recipe) and basis["kept"]
    assert "mine.yaml" in taken.said and "Seed 5" in taken.said
    assert download_value(None, "quick_try") == ""


def test_settings_of_a_file_are_not_changed_by_data(events, dataset, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("max_steps: 20\n")
    values = form_values(Recipe())
    _, basis, after = applied(
        events, values, events.take(taken_from_file(str(path)), START, values)
    )
    preset, _, later = applied(events, after, events.adapt(dataset.id, "quick_try", basis, **after))
    assert preset != "balanced" and later == after


def test_the_settings_of_a_run_come_back_with_its_data(studio, run, dataset):
    taken = taken_from_run(studio, run.id)
    assert taken.recipe == run.recipe() and taken.dataset_id == dataset.id
    assert "Sixty" in taken.said


def test_a_deleted_dataset_and_unknown_settings_are_named(studio, run, dataset, monkeypatch):
    monkeypatch.setattr(
        type(run), "settings", lambda one: {**one.spec()["recipe"], "new": 1, "optim": "lion"}
    )
    (dataset.dir / "meta.json").unlink()
    taken = taken_from_run(studio, run.id)
    assert taken.dataset_id == "" and "was deleted" in taken.said
    assert "Optimizer (lion), new (1)" in taken.said and taken.recipe.optim == "adamw_torch"
    with pytest.raises(UserError):
        taken_from_run(studio, "run-gone")


def test_start_asks_when_it_does_not_fit(studio, dataset, run):
    values = form_values(QUICK)
    write_json(run.dir / "state.json", {**run.state(), "state": "finished"})
    asked = Asked(dataset.id, "quick_try", values, None, TOO_LARGE)
    button, box, said, fix, card, commands = start_state(studio, asked)
    assert button["value"] == "Too large for this machine" and not button["interactive"]
    assert box["visible"] and fix["visible"] and "20 to 29 GB" in said
    assert "Too large for this machine" in card and "train quick_try" in commands
    for found in (FITS, None, replace(TOO_LARGE, fits=None)):
        button, box, *_ = start_state(studio, replace(asked, found=found))
        assert button["interactive"] and not box["visible"]


def test_a_run_that_waits_for_another_may_fit_later(studio, dataset, run):
    needs_little = replace(TOO_LARGE, memory_gb=replace(TOO_LARGE.memory_gb, likely=0.1))
    asked = Asked(dataset.id, "quick_try", form_values(QUICK), None, needs_little)
    button, *_ = start_state(studio, asked)  # the fixture's run is queued
    assert button["interactive"] and button["value"] == "Add to queue"
