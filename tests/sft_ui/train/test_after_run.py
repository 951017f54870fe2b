"""Actions on an ended run: retry, train longer, build on its weights."""

import pytest

from sft_ui.recipe_form import form_values
from sft_ui.runs import tab
from sft_ui.runs.view import Row
from sft_ui.train import after_run
from sft_ui.train import tab as train_tab
from trainer_backend.errors import UserError
from trainer_backend.home import write_json
from trainer_backend.recipe.recipe import STARTER_MODEL, Recipe
from trainer_backend.runs.checkpoints import commit
from trainer_backend.runs.create import create_run, list_runs, open_run

NO_MEMORY = {
    "what": "The memory of the device ran out.",
    "where": "step 3 of 9",
    "fix": "Try batch size 4.",
    "code": "out_of_memory",
    "offer": {"retry": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}},
}


def enter(run, state, **facts):
    write_json(run.dir / "state.json", {**run.state(), "state": state, **facts})


def keep_checkpoint(run, step=4):
    folder = run.dir / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    commit(folder, step, 0.5)


def test_nothing_is_offered_while_a_run_trains(run):
    enter(run, "running")
    keep_checkpoint(run)
    retry, box, *_ = after_run.shown_after(run)
    assert retry["visible"] is False and box["visible"] is False


def test_an_offer_becomes_a_button_and_one_new_run(studio, run):
    enter(run, "failed", error=NO_MEMORY, attempt=1)
    retry, box, *_ = after_run.shown_after(run)
    assert retry["visible"] and box["visible"] is False
    assert retry["value"] == "Start again with Batch size 4, Gradient accumulation 2"
    again = after_run.start_again(studio, run.id)
    assert after_run.start_again(studio, run.id).id == again.id  # a double click
    assert again.recipe().per_device_train_batch_size == 4
    assert again.spec()["dataset"] == run.spec()["dataset"]
    assert len(list_runs(studio.home)) == 2


def test_an_error_without_an_offer_starts_nothing(studio, run):
    enter(run, "failed", error={**NO_MEMORY, "offer": None})
    assert after_run.shown_after(run)[0]["visible"] is False
    with pytest.raises(UserError, match="offers nothing"):
        after_run.start_again(studio, run.id)


def test_damaged_checkpoints_offer_the_base_model():
    assert after_run.offer_words({}) == "Start again from the base model"
    other = {"base_model": STARTER_MODEL}
    assert after_run.offer_words(other) == "Try the starter model instead"


def test_a_finished_run_can_be_extended(run):
    enter(run, "finished")
    keep_checkpoint(run)
    _, box, length, *_ = after_run.shown_after(run)
    assert box["visible"] and (length["label"], length["value"]) == ("Total steps", 8)
    assert after_run.longer_by(run.recipe(), 6) == {"max_steps": 6}
    assert after_run.longer_by(Recipe(num_train_epochs=2), 2.5) == {"num_train_epochs": 2.5}


@pytest.mark.parametrize("length", [None, 4, 1])
def test_train_longer_needs_a_larger_total(run, length):
    with pytest.raises(UserError, match="already trains for 4 steps"):
        after_run.longer_by(run.recipe(), length)


def test_a_new_run_starts_from_the_weights_shown(studio, run, dataset):
    enter(run, "finished")
    keep_checkpoint(run)
    values = form_values(Recipe(max_steps=9))
    new = after_run.start_from(studio, run.id, "", "quick_try", "key", values)
    assert new.spec()["start"]["run"] == run.id and new.spec()["start"]["step"] == 4
    assert new.recipe().max_steps == 9 and new.spec()["dataset"]["id"] == dataset.id
    assert studio.scheduler.calls == ["wake"]
    assert "Started from" in train_tab.run_card(new)


def test_building_on_a_run_without_a_checkpoint_is_refused(studio, run):
    with pytest.raises(UserError, match="no checkpoint"):
        after_run.start_from(studio, run.id, "", "", "", form_values(Recipe(max_steps=9)))


def test_the_card_names_what_cannot_change(run):
    card = train_tab.run_card(run)
    assert "Settings fixed for this run" in card and "Seed" in card


def test_the_table_shows_why_a_run_failed(studio, dataset, run):
    enter(run, "failed", error=NO_MEMORY)
    stuck = create_run(studio.home, Recipe(max_steps=4), dataset, name="Stuck")
    enter(stuck, "running")
    write_json(stuck.dir / "stalled.json", {"phase": "step", "seconds": 700, "frozen": False})
    table = tab.runs_table(
        [Row(open_run(studio.home, one.id).summary()) for one in (run, stuck)], ""
    )
    assert "Failed: The GPU ran out of memory." in table and "No progress" in table


def test_every_choice_of_an_error_is_a_button_that_starts_with_it(studio, run):
    choices = [{"chat_template": "training"}, {"lost_content": "train_without"}]
    lost = {**NO_MEMORY, "offer": {"retry": choices[0], "choices": choices}}
    enter(run, "failed", error=lost, attempt=1)
    first, _, _, second, third = after_run.shown_after(run)
    assert first["value"] == "Start again: Use the training template"
    assert second["value"] == "Start again: Train without it"
    assert second["visible"] and not third["visible"]
    again = after_run.start_again(studio, run.id, 1)
    assert again.recipe().lost_content == "train_without"
    assert again.recipe().chat_template == "model"
