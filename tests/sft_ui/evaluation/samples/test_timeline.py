"""Samples of a run in training: only what is new is told, with what changed."""

import json

import pytest

from sft_ui.evaluation.samples import timeline
from sft_ui.evaluation.samples.timeline import Timeline
from sft_ui.train.run_feed import RunFeed
from trainer_backend.evaluation.samples import forget_after


def add(run, step, text, row=7, **more):
    facts = {"step": step, "row": row, "prompt": "Where?", "expected": "In Paris", "text": text}
    with open(run.dir / "samples.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({**facts, "cut": False, "seconds": 0.1, **more}) + "\n")


def test_each_sample_says_what_changed(run):
    add(run, 0, "In Rome")
    add(run, 10, "In Paris")
    add(run, 20, "In Paris", cut=True)
    first, second, third = Timeline(run).since(0)["samples"]["new"]
    assert (first["changed"], first["right"], first["pieces"]) == (
        None,
        False,
        [("same", "In Rome")],
    )
    assert second["pieces"] == [("same", "In "), ("del", "Rome"), ("ins", "Paris")]
    assert (second["changed"], second["right"]) == (True, True)
    assert (third["changed"], third["cut"]) == (False, True)


def test_a_viewer_gets_only_what_is_new(run):
    shown = Timeline(run)
    assert shown.since(0) == {}
    add(run, 0, "a")
    assert shown.since(0)["samples"]["fresh"] is True
    assert shown.since(1) == {}
    add(run, 10, "b")
    newer = shown.since(1)["samples"]
    assert (newer["at"], newer["fresh"]) == (2, False)
    assert [one["step"] for one in newer["new"]] == [10]
    assert len(shown.since(99)["samples"]["new"]) == 2


def test_a_resumed_run_is_told_anew_from_its_checkpoint_on(run):
    for step, text in ((0, "zero"), (10, "ten"), (20, "twenty")):
        add(run, step, text)
    shown = Timeline(run)
    at = shown.since(0)["samples"]["at"]
    forget_after(run, 10)
    add(run, 20, "ten")
    told = shown.since(at)["samples"]
    assert told["fresh"] and [one["step"] for one in told["new"]] == [0, 10, 20]
    assert told["new"][-1]["changed"] is False
    assert shown.since(told["at"]) == {}


def test_a_damaged_or_unfinished_line_is_left_out(run):
    (run.dir / "samples.jsonl").write_text('nonsense\n{"step": 1}\n[]\n{"step": 0, "row": 1, "t')
    assert Timeline(run).since(0) == {}


def test_of_a_long_run_the_beginning_and_the_newest_are_kept(run, monkeypatch):
    monkeypatch.setattr(timeline, "MOST_KEPT", 10)
    for step in range(12):
        add(run, step, f"{step}")
    told = Timeline(run).since(0)["samples"]
    assert told["at"] == 12 and [one["step"] for one in told["new"]] == [0, 7, 8, 9, 10, 11]


@pytest.mark.parametrize("at, told", [(0, True), (1, False)])
def test_the_feed_of_the_live_view_tells_them(run, at, told):
    add(run, 0, "a")
    answer = RunFeed(run).since({"samples_at": at}, lambda run_id: 1)
    assert ("samples" in answer) is told
