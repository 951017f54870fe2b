"""A viewer gets what is new, and asking costs almost nothing."""

import json

import pytest

from sft_ui.live_chart import answer_poll
from sft_ui.run_feed import MAX_POINTS_AT_ONCE, RunFeed, RunFeeds, thin
from trainer_backend.home import write_json
from trainer_backend.runs import Run


def append(run, *events):
    with open(run.dir / "events.jsonl", "a", encoding="utf-8") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


def step(number, loss=1.0):
    return {"type": "metrics", "step": number, "loss": loss, "learning_rate": 0.001}


def never(run_id):
    raise AssertionError("only a queued run has a place in the queue")


def enter(run, state, **facts):
    write_json(run.dir / "state.json", {**run.state(), "state": state, **facts})


@pytest.fixture
def running(run):
    enter(run, "running", step=2, total_steps=4)
    append(run, step(1), step(2), {"type": "eval", "step": 2, "eval_loss": 0.5})
    return run


def asked(answer, **more):
    return {"rev": answer["rev"], "seq": answer["seq"], "stamp": answer.get("stamp"), **more}


def test_the_first_answer_holds_the_whole_curve_and_the_state(running):
    answer = RunFeed(running).since({}, never)
    assert [point[0] for point in answer["points"]] == [1, 2, 2]
    assert answer["points"][2] == [2, 0.5]
    assert answer["state"]["state"] == "running" and answer["state"]["name"] == "A run"


def test_later_answers_hold_only_what_is_new(running):
    feed = RunFeed(running)
    first = feed.since({}, never)
    again = feed.since(asked(first), never)
    assert again["points"] == [] and "state" not in again
    append(running, step(3, 0.25))
    newer = feed.since(asked(first), never)
    assert [point[:2] for point in newer["points"]] == [[3, 0.25]]


def test_a_second_viewer_gets_everything(running):
    feed = RunFeed(running)
    feed.since(asked(feed.since({}, never)), never)
    assert len(feed.since({}, never)["points"]) == 3


def test_a_resumed_run_is_drawn_again_from_its_checkpoint(running):
    feed = RunFeed(running)
    first = feed.since({}, never)
    append(running, {"type": "resumed", "step": 1}, step(2, 9.0))
    answer = feed.since(asked(first), never)
    assert answer["rev"] != first["rev"]
    assert [point[:2] for point in answer["points"]] == [[1, 1.0], [2, 9.0]]


def test_a_torn_last_line_waits(running):
    feed = RunFeed(running)
    with open(running.dir / "events.jsonl", "a") as file:
        file.write('{"type": "metrics", "step": 3, "lo')
    assert len(feed.since({}, never)["points"]) == 3
    with open(running.dir / "events.jsonl", "a") as file:
        file.write('ss": 0.5}\n')
    assert len(feed.since({}, never)["points"]) == 4


def test_a_number_that_is_missing_is_a_gap(running):
    append(running, {"type": "metrics", "step": 3, "loss": None})
    assert RunFeed(running).since({}, never)["points"][-1][1] is None


def test_the_place_in_the_queue_is_told(run):
    answer = RunFeed(run).since({}, lambda run_id: 2)
    assert answer["state"]["queue_position"] == 2


def test_the_log_comes_in_parts(running):
    log = running.dir / "worker.log"
    log.write_text("one\ntwo\nthr")
    feed = RunFeed(running)
    first = feed.since({"log_at": 0}, never)
    assert first["log"] == "one\ntwo\n"
    log.write_text("one\ntwo\nthree\n")
    second = feed.since(asked(first, log_at=first["log_at"]), never)
    assert second["log"] == "three\n" and second["log_fresh"] is False
    assert "log" not in feed.since(asked(first, log_at=second["log_at"]), never)


def test_a_long_curve_is_thinned_without_losing_spikes():
    points = [[n, 1.0, None, None, None, None] for n in range(100_000)]
    points[54_321][1] = 99.0
    points.append([99_999, 0.5])
    kept = thin(points)
    assert len(kept) <= MAX_POINTS_AT_ONCE + 2
    assert [54_321, 99.0, None, None, None, None] in kept and [99_999, 0.5] in kept
    assert kept == sorted(kept, key=lambda point: point[0])


@pytest.mark.parametrize("request_", [None, [], {}, {"run": "../../etc"}, {"run": "run-unknown"}])
def test_an_odd_request_gets_a_plain_answer(studio, request_):
    assert answer_poll(RunFeeds(studio.home), studio, request_) == {"gone": True}


@pytest.mark.parametrize("seq", ["x", -5, 10**9, None])
def test_an_odd_position_starts_over(running, seq):
    feed = RunFeed(running)
    rev = feed.since({}, never)["rev"]
    assert len(feed.since({"rev": rev, "seq": seq}, never)["points"]) == 3


def test_a_poll_of_a_long_run_reads_and_sends_only_what_is_new(studio, running, monkeypatch):
    append(running, *(step(number) for number in range(3, 20_000)))
    (running.dir / "worker.log").write_text("line\n" * 20_000)
    feeds, starts, read = RunFeeds(studio.home), [], Run.events
    monkeypatch.setattr(Run, "events", lambda run, at=0: starts.append(at) or read(run, at))
    answer = answer_poll(feeds, studio, {"run": running.id, "log_at": 0})
    for number in range(20_000, 20_005):
        end = (running.dir / "events.jsonl").stat().st_size
        append(running, step(number))
        request = asked(answer, run=running.id, log_at=answer.get("log_at", 0))
        new = answer_poll(feeds, studio, request)
        assert starts[-1] == end and len(new["points"]) == 1 and len(json.dumps(new)) < 1000
        answer = {**request, **new}
