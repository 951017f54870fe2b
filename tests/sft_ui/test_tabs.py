"""The tabs' handlers as plain functions: model, train, chat, runs."""

import json
import os
import time

import pytest

from sft_ui.chat import tab
from sft_ui.model.basis import Basis
from sft_ui.model.cards.settings_cards import settings_cards
from sft_ui.recipe_form import form_values
from sft_ui.runs import tab as runs_tab
from sft_ui.runs.table import runs_table
from sft_ui.train import stopping
from sft_ui.train import tab as train_tab
from sft_ui.train.next_run_card import next_run
from sft_ui.train.next_run_card.next_run import Asked
from trainer_backend.errors import UserError
from trainer_backend.home import write_json
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.checkpoints import commit
from trainer_backend.runs.create import create_run

VALUES = form_values(Recipe(max_steps=5))


def enter(run, state):
    write_json(run.dir / "state.json", {**run.state(), "state": state})


def keep_checkpoint(run, step=4):
    folder = run.dir / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    commit(folder, step, 0.5)


def test_start_names_what_is_missing(studio, dataset):
    assert next_run.missing(studio, "", VALUES) == "Choose data first"
    assert next_run.missing(studio, "ds-gone", VALUES) == "Choose data first"
    wrong = {**VALUES, "learning_rate": "abc"}
    assert next_run.missing(studio, dataset.id, wrong) == "Fix Learning rate first"
    button, *_, card, _ = next_run.start_state(studio, Asked(dataset.id, "quick_try", wrong))
    assert button["interactive"] is False and 'data-field="learning_rate"' in card
    button, *_, card, _ = next_run.start_state(studio, Asked(dataset.id, "quick_try", VALUES))
    assert button["interactive"] is True and "Start training" in button["value"]
    assert "Sixty" in card and "Quick try" in card


def test_starting_twice_with_one_key_is_one_run(studio, dataset):
    asked = Asked(dataset.id, "quick_try", VALUES)
    first = next_run.start_run(studio, asked, "key")
    again = next_run.start_run(studio, asked, "key")
    other = next_run.start_run(studio, asked, "other")
    assert first.id == again.id != other.id
    assert first.recipe().max_steps == 5 and first.spec()["preset"] == "quick_try"


def test_a_wrong_form_starts_nothing(studio, dataset):
    with pytest.raises(UserError):
        asked = Asked(dataset.id, "x", {**VALUES, "max_length": "1e99"})
        next_run.start_run(studio, asked, "")
    assert studio.scheduler.calls == []


@pytest.mark.parametrize(
    "state, can_stop, can_resume",
    [("queued", 1, 0), ("running", 1, 0), ("paused", 0, 1), ("failed", 0, 1), ("finished", 0, 0)],
)
def test_buttons_follow_the_state(studio, run, state, can_stop, can_resume):
    enter(run, state)
    stop, resume, talk, card, *_ = train_tab.run_buttons(studio, run.id)
    assert (stop["interactive"], resume["interactive"]) == (bool(can_stop), bool(can_resume))
    assert talk["interactive"] is False and "A run" in card


def test_the_cards_show_batch_steps_and_differences(studio, dataset):
    values = form_values(Recipe(num_train_epochs=2, gradient_accumulation_steps=2))
    html = settings_cards(studio, dataset.id, "balanced", Basis(), values)
    assert "8 × 2 = 16" in html and "settings differ from the preset" in html and "GB" in html
    wrong = settings_cards(studio, dataset.id, "balanced", Basis(), {**values, "lora_r": -1})
    assert "“LoRA rank”" in wrong and 'data-field="lora_r"' in wrong


def test_chat_offers_runs_with_a_model(studio, run):
    choices = tab.chat_choices(studio, "a/base-model", None)
    assert [value for _, value in choices["choices"]] == ["model:a/base-model"]
    keep_checkpoint(run)
    choices = tab.chat_choices(studio, "a/base-model", None)
    assert choices["value"] == run.id
    late = tab.chat_choices(studio, "a/base-model", "model:a/base-model", choose=False)
    assert "value" not in late and len(late["choices"]) == 2
    assert tab.chat_choices(studio, "a/base-model", "gone", choose=False)["value"] == run.id
    checkpoints, system, _, tools, gives, *_ = tab.run_choices(studio, run.id)
    assert tools == "" and gives is False
    assert checkpoints["choices"] == [("Newest", -1), ("Step 4 · eval loss 0.500", 4)]
    assert system == ""


def test_a_run_that_cannot_be_read_is_in_the_list_and_can_be_deleted(studio, run):
    spec = run.dir / "spec.json"
    spec.write_text(json.dumps({**json.loads(spec.read_text()), "format_version": 99}))
    table, _, panel, name, _, code, *_ = runs_tab.show_runs(studio, run.id)
    assert run.id in table and "Cannot be read: This run was made by a newer version." in table
    assert panel["visible"] and name == run.name() and "Update this app" in code
    enter(run, "finished")
    run.delete()
    assert run.id not in runs_tab.show_runs(studio, "")[0]


def test_older_runs_that_are_not_shown_are_counted(studio, run, monkeypatch):
    assert "not shown" not in runs_tab.show_runs(studio, "")[0]
    create_run(studio.home, Recipe(max_steps=5), run.dataset())
    monkeypatch.setattr(runs_tab, "MAX_RUNS", 1)
    assert "1 more run not shown" in runs_tab.show_runs(studio, "")[0]


def test_the_runs_table_shows_and_hides_the_panel(studio, run):
    table, _, panel, name, confirm, code, *_ = runs_tab.show_runs(studio, run.id)
    assert run.id in table and panel["visible"] and name == "A run" and not confirm["visible"]
    assert "AutoPeftModelForCausalLM" in code
    assert runs_tab.show_runs(studio, "run-gone")[2]["visible"] is False
    assert "No runs yet" in runs_table([], "")


@pytest.mark.parametrize("kind", ["adapter", "merged"])
def test_the_snippet_is_python_with_the_system_prompt(kind):
    text = runs_tab.snippet(Recipe(system_prompt='Say "hi" {now}'), kind)
    compile(text, kind, "exec")
    assert 'Say "hi" {now}' in text


@pytest.mark.parametrize("state, words", [("failed", "Try again"), ("stopped", "Try again")])
def test_a_run_that_never_started_is_tried_again(studio, run, state, words):
    enter(run, state)
    assert train_tab.run_buttons(studio, run.id)[1]["value"] == words
    keep_checkpoint(run)
    assert train_tab.run_buttons(studio, run.id)[1]["value"] == "Resume"


def test_stop_cannot_be_pressed_into_a_kill(studio, run):
    enter(run, "running")
    run.request_stop()
    stop, *_, late, lost, end, confirm, start = train_tab.run_buttons(studio, run.id)
    assert (stop["value"], stop["interactive"]) == ("Stopping…", False)
    assert late["visible"] and "finishes" in lost and not end["visible"]
    assert not confirm["visible"] and start["variant"] == "secondary"
    asked = time.time() - stopping.OVERDUE_S
    os.utime(run.dir / "stop", (asked, asked))
    keep_checkpoint(run)
    write_json(run.dir / "state.json", {**run.state(), "step": 7})
    *_, lost, end, confirm, _ = train_tab.run_buttons(studio, run.id)
    assert end["visible"] and not confirm["visible"]
    assert "The 3 steps since the checkpoint of step 4 are lost" in lost


def test_start_is_primary_unless_a_run_trains_or_is_ready_to_chat(studio, run):
    looks = {}
    for state in ("running", "stopped", "finished"):
        enter(run, state)
        looks[state] = train_tab.run_buttons(studio, run.id)[-1]["variant"]
    assert looks == {"running": "secondary", "stopped": "primary", "finished": "primary"}
    keep_checkpoint(run)
    _, _, talk, *_, start = train_tab.run_buttons(studio, run.id)
    assert (talk["variant"], start["variant"]) == ("primary", "secondary")
    button, *_ = next_run.start_state(studio, Asked("", "quick_try", VALUES))
    assert "variant" not in button  # it has one owner


def test_a_deletion_says_what_goes_and_an_export_bears_the_name_of_its_run(run, tmp_path):
    keep_checkpoint(run)
    words = runs_tab.deleted_words(run)
    assert words.startswith("Delete “A run”? The run with its 1 checkpoint") and "KB" in words
    made = tmp_path / "run-1-adapter.zip"
    made.write_bytes(b"zip")
    named = runs_tab.named_copy(made, "../My <b> run: 2", "adapter")
    assert named.name == "My-b-run-2-adapter.zip" and named.read_bytes() == b"zip"
    assert named.is_relative_to(tmp_path)
