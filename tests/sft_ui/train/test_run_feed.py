"""Polls return only what is new and cost almost nothing."""

import json

import pytest

from sft_ui.train import run_feed
from sft_ui.train.live_chart import answer_poll
from sft_ui.train.run_feed import MAX_POINTS_AT_ONCE, RunFeed, RunFeeds
from trainer_backend.home import write_json


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


def test_a_missing_value_is_a_gap(running):
    append(running, {"type": "metrics", "step": 3, "loss": None})
    assert RunFeed(running).since({}, never)["points"][-1][1] is None


def test_the_queue_position_is_included(run):
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


def test_a_long_run_is_sent_thinned_out(running):
    append(running, *(step(number) for number in range(3, 5 * MAX_POINTS_AT_ONCE)))
    answer = RunFeed(running).since({}, never)
    assert answer["seq"] == 5 * MAX_POINTS_AT_ONCE and len(answer["points"]) <= MAX_POINTS_AT_ONCE


@pytest.mark.parametrize(
    "line", ["[1]", "null", "{", '"x"', '{"type": "metrics"}', '{"type": "eval", "step": "x"}']
)
def test_lines_without_a_point_are_ignored(running, line):
    with open(running.dir / "events.jsonl", "a") as file:
        file.write(line + "\n")
    append(running, step(3))
    assert [point[0] for point in RunFeed(running).since({}, never)["points"]] == [1, 2, 2, 3]


def test_viewers_who_come_later_get_the_whole_curve_too(running):
    feed = RunFeed(running)
    feed.since({}, never)
    append(running, step(3, 0.25))
    assert [point[0] for point in feed.since({}, never)["points"]] == [1, 2, 2, 3]
    append(running, {"type": "resumed", "step": 2}, step(3, 9.0))
    late = feed.since({}, never)["points"]
    assert [point[:2] for point in late] == [[1, 1.0], [2, 1.0], [2, 0.5], [3, 9.0]]
    append(running, *(step(number) for number in range(4, 2_000)))
    late = feed.since({}, never)["points"]
    assert late[-1][0] == 1_999 and [p[0] for p in late] == sorted(p[0] for p in late)


def test_a_long_unread_run_is_read_in_a_thread(studio, running, monkeypatch):
    feeds = RunFeeds(studio.home)
    assert not feeds.is_slow(running.id) and not feeds.is_slow("run-unknown")
    monkeypatch.setattr(run_feed, "SLOW_TO_READ", 10)
    assert feeds.is_slow(running.id)
    feeds.of(running.id).since({}, never)
    assert not feeds.is_slow(running.id)


@pytest.mark.parametrize("request_", [None, [], {}, {"run": "../../etc"}, {"run": "run-unknown"}])
def test_a_malformed_poll_is_answered(studio, request_):
    assert answer_poll(RunFeeds(studio.home), studio, request_) == {"gone": True}


@pytest.mark.parametrize("seq", ["x", -5, 10**9, None])
def test_an_invalid_position_restarts_the_curve(running, seq):
    feed = RunFeed(running)
    rev = feed.since({}, never)["rev"]
    assert len(feed.since({"rev": rev, "seq": seq}, never)["points"]) == 3


def test_a_poll_of_a_long_run_reads_and_sends_only_what_is_new(studio, running, monkeypatch):
    append(running, *(step(number) for number in range(3, 20_000)))
    (running.dir / "worker.log").write_text("line\n" * 20_000)
    feeds, parsed, parse = RunFeeds(studio.home), [], run_feed._event
    monkeypatch.setattr(run_feed, "_event", lambda line: parsed.append(line) or parse(line))
    answer = answer_poll(feeds, studio, {"run": running.id, "log_at": 0})
    for number in range(20_000, 20_005):
        parsed.clear()
        append(running, step(number))
        request = asked(answer, run=running.id, log_at=answer.get("log_at", 0))
        new = answer_poll(feeds, studio, request)
        assert len(parsed) == len(new["points"]) == 1 and len(json.dumps(new)) < 1000
        answer = {**request, **new}


def test_a_requested_stop_is_told_with_its_age_while_the_run_is_active(running):
    feed = RunFeed(running)
    assert "stopping" not in feed.since({}, never)
    running.request_stop()
    assert 0 <= feed.since({}, never)["stopping"] < 5
    enter(running, "paused", step=22)
    assert "stopping" not in feed.since({}, never)


class Watched:
    """A run of some points, as a feed and as a run."""

    def __init__(self, run):
        self.id, self.size = getattr(run, "id", run), 10


@pytest.fixture
def many(monkeypatch, tmp_path):
    monkeypatch.setattr(run_feed, "open_run", lambda home, run_id: Watched(run_id))
    monkeypatch.setattr(run_feed, "RunFeed", Watched)
    return RunFeeds(tmp_path)


def test_hundreds_of_runs_may_be_watched_at_once(many):
    first = [many.of(f"run-{number}") for number in range(200)]
    assert [many.of(f"run-{number}") for number in range(200)] == first


def test_feeds_nobody_asks_for_make_room_for_points(many, monkeypatch):
    monkeypatch.setattr(run_feed, "MAX_POINTS", 25)
    kept = [many.of(name) for name in "abc"]
    assert [many.of(name) for name in "abc"] == kept  # 30 points: the newest does not count
    many.of("d")
    assert many.of("c") is kept[2] and many.of("a") is not kept[0]
