import pytest
from run_files import append, set_state

from trainer_backend.errors import UserError
from trainer_backend.home import read_json
from trainer_backend.recipe import Recipe
from trainer_backend.run_events import read_event
from trainer_backend.runs import create_run, list_runs, unfinished_runs

DAMAGED = ["", "null", "[]", "{}", '{"state": "bogus"}', '{"state": "failed", "error": "x"}']
DAMAGED += ['{"state": "failed", "warnings": 3}', "[" * 100_000, '{"state": "run']
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
