"""Run folders: created once, read while half written, renamed, deleted only when over."""

import os
import time

import pytest
from run_files import append, set_state

from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.errors import UserError
from trainer_backend.home import write_json
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.recipe.recipe_file import load_recipe, save_recipe
from trainer_backend.runs.checkpoints import commit
from trainer_backend.runs.create import create_run, list_runs, open_run
from trainer_backend.runs.writer import RunWriter


def test_a_new_run_waits_with_its_whole_recipe(run):
    assert run.state()["state"] == "queued"
    assert run.recipe() == Recipe(max_steps=4)
    assert load_recipe(run.dir / "recipe.yaml") == run.recipe()
    summary = run.summary()
    assert summary["dataset"] == "numbers" and summary["step"] == 0 and summary["loss"] is None
    assert summary["name"] == "SmolLM2-135M-Instruct on numbers"


def test_the_recipe_file_of_a_run_goes_along_with_every_change(run):
    for steps in (6, 8):
        run.change_recipe({"max_steps": steps}, "resumed")
        assert load_recipe(run.dir / "recipe.yaml") == run.recipe() == Recipe(max_steps=steps)
    with pytest.raises(UserError):
        run.change_recipe({"seed": 1}, "resumed")
    assert load_recipe(run.dir / "recipe.yaml") == Recipe(max_steps=8)
    save_recipe(Recipe(max_steps=6), run.dir / "recipe.yaml")  # as a crash would leave it
    run.change_recipe({"max_steps": 8}, "resumed")
    assert load_recipe(run.dir / "recipe.yaml") == Recipe(max_steps=8)


def test_the_same_key_is_the_same_run(home, dataset):
    one = create_run(home, Recipe(), dataset, key="click-1")
    assert create_run(home, Recipe(), dataset, key="click-1") == one
    assert create_run(home, Recipe(), dataset, key="click-2") != one


def test_a_run_for_the_foreground_is_not_left_to_the_scheduler(home, dataset):
    assert create_run(home, Recipe(), dataset, foreground=True).state()["state"] == "preparing"


def test_a_dataset_without_a_usable_row_is_refused(home):
    empty = create_from_rows(home, [{"a": "x", "b": "y", "c": "z"}], name="unclear")
    with pytest.raises(UserError) as caught:
        create_run(home, Recipe(), empty)
    assert caught.value.fix


@pytest.mark.parametrize(
    "changes",
    [{"base_model": "nope"}, {"base_model": "/etc"}, {"adapter": "full", "precision": "int4"}],
)
def test_what_cannot_work_is_refused_before_there_is_a_run(home, dataset, changes):
    with pytest.raises(UserError):
        create_run(home, Recipe.from_dict(changes), dataset)
    assert list_runs(home) == []


def test_runs_are_listed_newest_first_and_opened_by_id(home, dataset):
    first, second = (create_run(home, Recipe(), dataset) for _ in range(2))
    assert [one.id for one in list_runs(home)] == [second.id, first.id]
    assert open_run(home, first.id) == first


@pytest.mark.parametrize("name", ["run-000000000000", "../../etc", "", "x" * 500])
def test_unknown_runs_are_refused(home, name):
    with pytest.raises(UserError):
        open_run(home, name)


def test_events_are_read_in_pieces_and_a_torn_line_waits(run):
    append(run, {"type": "metrics", "step": 1, "loss": 2.0})
    events, offset = run.events()
    assert [event["step"] for event in events] == [1]
    with open(run.dir / "events.jsonl", "a") as file:
        file.write('{"type": "metrics", "st')
    assert run.events(offset) == ([], offset)
    with open(run.dir / "events.jsonl", "a") as file:
        file.write('ep": 2, "loss": 1.0}\nnot json\n[1]\n')
    events, offset = run.events(offset)
    assert [event["step"] for event in events] == [2]
    assert run.events(offset) == ([], offset)


def test_steps_done_again_after_a_resume_are_counted_once(run):
    for step in (1, 2, 3):
        append(run, {"type": "metrics", "step": step, "loss": float(step)})
    append(run, {"type": "resumed", "step": 1})
    append(run, {"type": "metrics", "step": 2, "loss": 20.0}, {"type": "eval", "step": 2})
    assert [(row["type"], row["step"]) for row in run.metrics()] == [
        ("metrics", 1),
        ("metrics", 2),
        ("eval", 2),
    ]
    assert run.metrics()[1]["loss"] == 20.0
    assert len(run.metrics(since=2)) == 1


@pytest.mark.parametrize("name", ["", "  ", "x" * 200, "a\0b"])
def test_names_that_cannot_be_shown_are_refused(run, name):
    with pytest.raises(UserError):
        run.rename(name)


@pytest.mark.parametrize("name", ["../x", "CON", "<script>alert(1)</script>", "🎉", "{0}", "$(id)"])
def test_any_other_name_is_only_a_label(run, name):
    run.rename(name)
    assert run.name() == name
    assert run.dir.name == run.id


@pytest.mark.parametrize("state", ["queued", "preparing", "running", "saving"])
def test_a_run_that_is_not_over_cannot_be_deleted(run, state):
    set_state(run, state=state)
    with pytest.raises(UserError):
        run.delete()
    assert run.dir.exists()


def test_a_finished_run_is_deleted_whole(home, run):
    set_state(run, state="finished")
    run.delete()
    assert list_runs(home) == [] and list((home / "runs").glob("*run-*")) == []


def test_a_run_whose_worker_lives_cannot_be_deleted(run):
    set_state(run, state="finished")
    with run.lock():
        assert run.is_alive()
        with pytest.raises(UserError):
            run.delete()
    assert not run.is_alive()


def test_a_writer_repairs_a_torn_line_and_writes_strict_json(run):
    (run.dir / "events.jsonl").write_text('{"type": "state", "state": "running"}\n{"type": "met')
    writer = RunWriter(run)
    writer.event("metrics", step=1, loss=float("nan"))
    events, _ = run.events()
    assert [event["type"] for event in events] == ["state", "repaired", "metrics"]
    assert events[2]["loss"] is None and events[2]["not_finite"] == ["loss"]


def test_a_writer_keeps_time_over_attempts_and_warnings_once(run):
    writer = RunWriter(run)
    writer.enter("preparing")
    writer.enter("running", step=1)
    writer.warn("fp16 needs a GPU")
    writer.warn("fp16 needs a GPU")
    set_state(run, elapsed_seconds=100.0)
    again = RunWriter(run)
    again.enter("preparing")
    state = run.state()
    assert state["attempt"] == 2 and state["elapsed_seconds"] >= 100.0
    assert state["warnings"] == ["fp16 needs a GPU"]


def test_the_log_tail_shows_the_last_of_each_progress_line(run):
    (run.dir / "worker.log").write_bytes(b"first\n 10%\r 50%\r100%\nlast \xff\n")
    assert run.log_tail(2).splitlines() == ["100%", "last \ufffd"]


def test_held_out_rows_are_the_ones_not_trained_on(run):
    trained, held_out = run.split()
    assert sorted(trained + held_out) == list(range(40)) and held_out


def test_checkpoints_of_a_run(run):
    path = run.dir / "checkpoints" / "checkpoint-2"
    path.mkdir()
    (path / "adapter_model.safetensors").write_bytes(b"x")
    assert run.checkpoints() == []
    commit(path, 2, eval_loss=0.5)
    assert [(one.step, one.eval_loss) for one in run.checkpoints()] == [(2, 0.5)]


def test_a_state_is_read_again_whenever_it_was_replaced(run):
    """Also twice within one tick of the file system's clock, with the same size."""
    for _ in range(50):
        for state in ("running", "stopped"):
            write_json(run.dir / "state.json", {"state": state})
            assert run.state()["state"] == state
    old = time.time() - 100
    os.utime(run.dir / "state.json", (old, old))
    assert run.state() == run.state() == {"state": "stopped"}
    write_json(run.dir / "state.json", {"state": "running"})
    assert run.state()["state"] == "running"
