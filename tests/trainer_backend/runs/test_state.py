import os
from itertools import product

import pytest
from run_files import append, set_state

from trainer_backend.errors import UserError
from trainer_backend.home import read_json, write_json
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs import state as run_state
from trainer_backend.runs.create import create_run, list_runs, unfinished_runs
from trainer_backend.runs.events import read_event
from trainer_backend.runs.files import STATE
from trainer_backend.runs.run import Run
from trainer_backend.runs.state import (
    ACTIVE,
    LIVE,
    NEXT,
    OVER,
    RESUMABLE,
    STATES,
    IllegalTransition,
    after_stop,
    amend,
    begin,
    begin_again,
    cancel,
    enter,
    is_run,
    remembered_state,
    write_state,
)
from trainer_backend.runs.writer import RunWriter

LEGAL = {
    "queued": "preparing paused stopped failed",
    "preparing": "preparing running queued paused stopped failed",
    "running": "preparing running saving queued finished paused stopped failed",
    "saving": "preparing running saving queued paused stopped failed",
    "paused": "preparing queued failed",
    "stopped": "preparing queued failed",
    "failed": "preparing queued failed",
    "finished": "preparing queued",
}

DAMAGED = ["", "null", "[]", "{}", '{"state": "bogus"}', '{"state": "failed", "error": "x"}']
DAMAGED += [
    '{"state": "failed", "warnings": 3}',
    '{"state": "failed", "paths": "x"}',
    "[" * 100_000,
    '{"state": "run',
]
LOST = ["", "null", "[]", "{}", '{"format_version": "x"}', '{"format_version": 2}', "[" * 100_000]


@pytest.fixture
def begun(run):
    """A run that was at step 2 when the machine went away."""
    set_state(run, state="running", step=2, total_steps=9)
    append(run, {"type": "state", "state": "preparing"}, {"type": "state", "state": "running"})
    append(run, {"type": "metrics", "step": 1, "loss": 2.0})
    append(run, {"type": "metrics", "step": 2, "loss": 1.5})
    return run


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_state_is_told_by_the_events(home, begun, text):
    (begun.dir / "state.json").write_text(text)
    state = begun.state()
    assert (state["state"], state["step"], state["loss"]) == ("stopped", 2, 1.5)
    assert "damaged" in state["warnings"][0]
    assert [one.summary()["step"] for one in list_runs(home)] == [2]
    assert unfinished_runs(home) == []


def test_a_lost_state_keeps_how_the_run_ended(home, begun):
    append(begun, {"type": "state", "state": "finished"})
    (begun.dir / "state.json").unlink()
    assert begun.state()["state"] == "finished" and list_runs(home) == [begun]
    begun.delete()
    assert list_runs(home) == []


def test_a_folder_without_state_and_events_is_no_run(home, run):
    (run.dir / "state.json").unlink()
    with pytest.raises(FileNotFoundError):
        run.state()
    assert list_runs(home) == []


@pytest.mark.parametrize("text", LOST)
def test_one_run_that_cannot_be_read_hides_no_other(home, run, dataset, text):
    other = create_run(home, Recipe(), dataset)
    (run.dir / "spec.json").write_text(text)
    with pytest.raises(UserError, match="cannot be read"):
        run.spec()
    assert list_runs(home) == [other]


@pytest.mark.parametrize("text", ["", "[{}]", "[1]", '{"a": 1}', '"x"'])
def test_settings_changed_at_a_resume_are_never_dropped_in_silence(run, text):
    run.change_recipe({"max_steps": 9}, "resumed")
    assert run.recipe().max_steps == 9
    (run.dir / "changes.json").write_text(text)
    with pytest.raises(UserError, match="changed at a resume"):
        run.recipe()
    assert list_runs(run.home) == []  # and no other run is hidden by it


def test_a_setting_that_no_file_can_hold_is_refused_before_a_run_is_made(home, dataset):
    for text in ("half a letter \ud800", "a\0b"):
        with pytest.raises(UserError, match="system_prompt"):
            create_run(home, Recipe.from_dict({"system_prompt": text}), dataset)
    assert not list((home / "runs").glob("run-*"))


def test_a_stop_can_be_asked_for_on_a_full_disk(run, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    for name in ("fsync", "write"):
        monkeypatch.setattr(f"os.{name}", full)
    run.request_stop()
    assert run.stop_requested()


def test_a_name_that_cannot_be_read_is_the_id(run):
    for content in (b"", b"\xff"):
        (run.dir / "name.txt").write_bytes(content)
        assert run.name() in (run.id, "\ufffd")
    (run.dir / "name.txt").unlink()
    (run.dir / "name.txt").mkdir()
    assert run.name() == run.id


@pytest.mark.parametrize(
    "line", ["1", "[]", '{"type": 3}', '{"type": "metrics"}', '{"type": "eval", "step": 1e3}']
)
def test_a_line_that_is_no_event_is_none(line):
    assert read_event(line.encode()) is None
    assert read_event(b'{"type": "metrics", "step": 99999999999999999999}') is None
    assert read_event(b'{"type": "warning", "text": "x"}') == {"type": "warning", "text": "x"}


def test_what_can_be_done_without_is_read_as_its_default(tmp_path):
    path = tmp_path / "worker.json"
    for text in ("", "[1]", "{", "[" * 100_000):
        path.write_text(text)
        assert read_json(path, {}) == {}
    with pytest.raises(ValueError, match="nested too deep"):
        read_json(path)


def test_every_state_is_named_once_and_has_its_moves():
    assert LIVE == ("queued", *ACTIVE) and OVER == ("finished", *RESUMABLE)
    assert STATES == (*LIVE, *OVER) and len(set(STATES)) == 8
    assert set(NEXT) == set(LEGAL) == set(STATES)


def put(folder, state: str) -> Run:
    folder.mkdir(exist_ok=True)
    write_state(
        folder, {"state": state, "step": 3, "error": {"what": "x"}, "progress": {"done": 1}}
    )
    return Run(folder)


@pytest.mark.parametrize(("before", "after"), list(product(LEGAL, repeat=2)))
def test_a_run_moves_only_as_the_table_says(tmp_path, before, after):
    """Whoever moves it: a worker, or one of those who write when there is none."""
    moves = {"outside": lambda run: enter(run.dir, after), "worker": lambda run: worker(run, after)}
    for name, move in moves.items():
        run = put(tmp_path / name, before)
        if after in LEGAL[before].split():
            move(run)
            assert run.state()["state"] == after and run.state()["step"] == 3
        else:
            with pytest.raises(IllegalTransition, match=f"that is {before} cannot become {after}"):
                move(run)
            assert run.state()["state"] == before and run.events()[0] == []


def worker(run: Run, state: str) -> None:
    RunWriter(run).enter(state)


@pytest.mark.parametrize("state", OVER)
def test_a_run_that_is_over_has_its_end_and_nothing_goes_on(tmp_path, state):
    run = put(tmp_path, "running")
    enter(run.dir, state, result_step=3)
    after = run.state()
    assert after["ended_at"] == pytest.approx(after["updated_at"], abs=1)
    assert after["progress"] is after["eta_seconds"] is None and after["result_step"] == 3
    assert after["error"] == {"what": "x"}  # only a new start forgets it


@pytest.mark.parametrize("state", ["queued", "preparing"])
def test_a_new_start_forgets_how_the_run_ended(tmp_path, state):
    run = put(tmp_path, "failed")
    enter(run.dir, state)
    assert run.state()["error"] is run.state()["ended_at"] is run.state()["progress"] is None


def test_a_worker_knows_its_state_better_than_the_disk(tmp_path):
    """A shared disk was away: the run was given up by others, but its worker still trains."""
    run = put(tmp_path, "running")
    writer = RunWriter(run)
    enter(run.dir, "failed")
    writer.enter("saving")
    assert run.state()["state"] == "saving"


def test_the_beginning_of_a_run_is_a_place_in_the_queue_or_its_callers(tmp_path):
    assert not is_run(tmp_path)
    begin(tmp_path)
    state = Run(tmp_path).state()
    assert is_run(tmp_path) and (state["state"], state["attempt"]) == ("queued", 0)
    assert state["queued_at"] == pytest.approx(state["updated_at"], abs=1)
    begin(tmp_path, foreground=True)
    state = Run(tmp_path).state()
    assert (state["state"], state["foreground"]) == ("preparing", True)


def test_a_run_begins_again_with_no_end_and_keeps_its_place_if_it_has_one(tmp_path):
    run = put(tmp_path, "paused")
    amend(run.dir, early_stopped=2, result_step=2)
    begin_again(run.dir, queued_at=5.0)
    state = run.state()
    assert state["state"] == "queued" and state["queued_at"] == 5.0
    assert state["early_stopped"] is state["result_step"] is None and state["step"] == 3
    with pytest.raises(IllegalTransition):  # somebody else was quicker
        begin_again(run.dir)


def test_only_a_run_that_waits_is_taken_out_of_the_queue(run):
    run.request_stop()
    cancel(run.dir)
    assert run.state()["state"] == "stopped" and not run.stop_requested()
    assert not run.state().get("ended_at")  # it never began
    for state in (*ACTIVE, *OVER):
        set_state(run, state=state)
        run.request_stop()
        cancel(run.dir)
        assert run.state()["state"] == state and run.stop_requested()


def test_a_stopped_run_is_paused_when_there_is_something_to_go_on_from(finished, run):
    assert (after_stop(finished.dir), after_stop(run.dir)) == ("paused", "stopped")


def test_the_states_of_thousands_of_runs_stay_remembered(tmp_path, monkeypatch):
    reads = []
    read = run_state._read_state

    def counting(path):
        reads.append(path)
        return read(path)

    monkeypatch.setattr(run_state, "_read_state", counting)
    folders = [tmp_path / f"run-{number}" for number in range(4_200)]
    for folder in folders:
        folder.mkdir()
        (folder / STATE).write_text('{"state": "finished"}')
        os.utime(folder / STATE, (1, 1))
    for _ in range(3):
        assert all(remembered_state(one)["state"] == "finished" for one in folders)
    assert len(reads) == len(folders)


def test_a_second_look_at_ended_runs_reads_no_state(tmp_path, monkeypatch):
    folders = [tmp_path / "runs" / f"run-{number}" for number in range(5)]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / STATE).write_text('{"state": "finished"}')
        os.utime(folder / STATE, (1, 1))
    (folders[3] / STATE).write_text('{"state": "queued"}')
    looked = []

    def looking(folder):
        looked.append(folder.name)
        return remembered_state(folder)

    monkeypatch.setattr(run_state, "remembered_state", looking)
    assert [run.id for run in unfinished_runs(tmp_path)] == ["run-3"] and len(looked) == 5
    looked.clear()
    assert [run.id for run in unfinished_runs(tmp_path)] == ["run-3"] and looked == ["run-3"]
    write_json(folders[1] / STATE, {"state": "queued"})
    found = {run.id for run in unfinished_runs(tmp_path)}
    assert found == {"run-1", "run-3"} and unfinished_runs(tmp_path / "none") == []
