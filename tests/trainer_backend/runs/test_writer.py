"""Events and state on the disk: whole lines, strict JSON, no secrets; a full disk ends nothing."""

import errno
import json
import os

import pytest

from trainer_backend.runs import writer as run_writer
from trainer_backend.runs.run import Run
from trainer_backend.runs.writer import RunWriter, strict

CANARY = "canary-7f3a9e-secret-value"


def types(run: Run) -> list[str]:
    return [event["type"] for event in run.events()[0]]


def test_case_37_a_torn_line_is_cut_garbage_is_skipped_and_both_are_counted(run):
    path = run.dir / "events.jsonl"
    path.write_bytes(b'{"type": "metrics", "step": 1}\nnot json\n\xff\xfe\n[1]\n{"type": "met')
    assert [event["step"] for event in run.events()[0]] == [1]
    writer = RunWriter(run)
    writer.event("metrics", step=2)
    events, offset = run.events()
    assert [event["type"] for event in events] == ["metrics", "repaired", "metrics"]
    assert (events[1]["cut_bytes"], events[1]["skipped_lines"]) == (13, 3)
    assert offset == path.stat().st_size and path.read_bytes().endswith(b"\n")
    RunWriter(run)  # what was counted once is not counted again
    assert types(run) == ["metrics", "repaired", "metrics"]


def test_an_event_is_on_the_disk_before_the_next_thing_happens(run, monkeypatch):
    flushed = []
    original = os.fsync
    monkeypatch.setattr(run_writer.os, "fsync", lambda fd: flushed.append(fd) or original(fd))
    RunWriter(run).event("metrics", step=1)
    assert len(flushed) == 1


@pytest.mark.parametrize("how", ["refused", "in part"])
def test_case_23_a_full_disk_tears_no_line_and_fails_no_run(run, monkeypatch, how):
    writer = RunWriter(run)
    writer.event("metrics", step=1)
    original = os.write

    def full(descriptor, data):
        if how == "in part":
            return original(descriptor, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_writer.os, "write", full)
    writer.event("metrics", step=2)
    writer.event("metrics", step=3)
    monkeypatch.undo()
    assert [event["step"] for event in run.events()[0]] == [1]
    assert (run.dir / "events.jsonl").read_bytes().endswith(b"\n")
    writer.event("metrics", step=4)
    assert [event["step"] for event in run.events()[0]] == [1, 2, 3, 4]


def test_case_23_a_state_that_cannot_be_written_leaves_the_one_before(run, monkeypatch):
    writer = RunWriter(run)
    writer.update(now=True, step=1)

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_writer, "write_state", full)
    writer.update(now=True, step=2)
    monkeypatch.undo()
    assert run.state()["step"] == 1
    writer.update(now=True)
    assert run.state()["step"] == 2


def test_other_disk_errors_are_not_hidden(run, monkeypatch):
    writer = RunWriter(run)

    def broken(*args):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(run_writer.os, "write", broken)
    with pytest.raises(OSError, match="Input/output"):
        writer.event("metrics", step=1)


def test_case_29_numbers_that_are_none_become_null_with_a_flag_at_any_depth():
    facts = strict({"loss": float("nan"), "rows": [1.0, float("inf")], "more": {"x": float("nan")}})
    assert facts["loss"] is None and facts["not_finite"] == ["loss"]
    assert facts["rows"] == [1.0, None] and facts["more"] == {"x": None}
    json.dumps(facts, allow_nan=False)


def test_no_secret_reaches_the_folder(run, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", CANARY)
    writer = RunWriter(run)
    writer.event("error", what=f"login {CANARY} failed", more=[{"header": f"Bearer {CANARY}"}])
    writer.update(now=True, error={"what": CANARY})
    writer.warn(f"the key {CANARY} is old")
    for path in run.dir.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path
    assert "login" in run.events()[0][0]["what"]


def test_a_process_that_is_not_the_first_writes_nothing(run):
    before = sorted((path.name, path.stat().st_mtime_ns) for path in run.dir.iterdir())
    writer = RunWriter(run, enabled=False)
    writer.event("metrics", step=1)
    writer.enter("preparing", step=1)
    assert sorted((path.name, path.stat().st_mtime_ns) for path in run.dir.iterdir()) == before
