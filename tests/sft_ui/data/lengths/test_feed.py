"""Token lengths for the page: one shared count, exact steps, a histogram of every row."""

import json
import time

import numpy as np
import pytest

from sft_ui.data.lengths import feed as length_feed
from sft_ui.data.lengths.feed import LengthFeed, asked, bars, report, steps_above
from trainer_backend.data.store.length_report import LengthReport
from trainer_backend.errors import UserError
from trainer_backend.recipe.recipe import Recipe


def over(steps, rows, limit):
    """The same calculation as the chart's rowsOver."""
    below = [larger for value, larger in steps if value <= limit]
    return below[-1] if below else rows


@pytest.mark.parametrize("limit", [1, 16, 64, 511, 512, 513, 1024, 2048, 9_999])
def test_rows_above_a_limit_are_counted_exactly(limit):
    values = np.random.default_rng(0).lognormal(5, 1, 5_000).astype(np.int32)
    assert over(steps_above(values), 5_000, limit) == int((values > limit).sum())


def test_too_many_lengths_stay_exact_at_the_common_limits():
    values = np.random.default_rng(0).integers(1, 90_000, 50_000)
    steps = steps_above(values)
    assert len(steps) <= length_feed.MAX_STEPS + 6
    for limit in (511, 512, 1024, 2048):
        assert over(steps, 50_000, limit) == int((values > limit).sum())


@pytest.mark.parametrize("values", [[7], [5] * 9, range(60, 90), [3, 8, 9, 20_000], [0, 1, 2]])
def test_every_row_is_in_a_bar(values):
    found = bars(np.array(list(values)))
    assert sum(found["counts"]) == len(list(values))
    assert found["edges"] == sorted(set(found["edges"]))
    assert len(found["edges"]) == len(found["counts"]) + 1


def test_lengths_that_spread_far_get_doubling_bars():
    assert bars(np.array([20] * 50 + [30_000]))["log"]
    assert not bars(np.arange(50, 90))["log"]


@pytest.fixture
def lengths():
    total, first = np.array([10, 50, 70, 0], np.int32), np.array([5, 20, 64, 0], np.int32)
    end, trained = total.copy(), total - first
    rows = np.array([1, 2, 3, 9], np.int64)
    return LengthReport(rows, total, first, end, trained, failures=[(9, "no user turn")], key="k1")


def test_the_report_says_which_rows_are_cut_and_which_answers_are_lost(lengths):
    found = report(lengths, 64, 12)
    assert found["rows"] == 3 and found["longest"] == 70
    assert over(found["late"], found["taught"], 63) == 1 and over(found["over"], 3, 63) == 1
    assert found["totals"] == {"trained": 35, "context": 89, "steps": 12}
    assert {one["code"] for one in found["problems"]} == {
        "over_length",
        "no_answer_left",
        "template_error",
    }
    assert json.loads(json.dumps(found)) == found


def wait_for(feed, wanted):
    for _ in range(200):
        answer = feed.watch(wanted)
        if answer["state"] != "counting":
            return answer
        time.sleep(0.02)
    raise AssertionError("counting does not end")


def test_all_who_watch_share_one_count(studio, dataset, lengths):
    calls = []

    def count(dataset_id, fields):
        calls.append(fields)
        yield {"done": 0, "total": 4}
        lengths.save(dataset.dir)
        yield {"done": 4, "total": 4, "key": "k1"}

    studio.model_process.token_lengths = count
    feed, values = LengthFeed(studio), Recipe().to_dict()
    wanted = json.loads(asked(dataset.id, {**values, "max_length": 64}))
    assert wait_for(feed, wanted)["totals"]["trained"] == 35
    assert wait_for(feed, {**wanted, "max_length": 40})["totals"]["trained"] == 25
    assert len(calls) == 1 and feed.known(dataset.id, values) is not None
    assert feed.known(dataset.id, {**values, "base_model": "other"}) is None


def test_a_download_before_the_count_is_told_and_ends_when_nobody_watches(
    studio, dataset, monkeypatch
):
    monkeypatch.setattr(length_feed, "UNWATCHED_S", 0.3)
    closed = []

    def count(dataset_id, fields):
        fetching = {"what": "Downloading the starter model", "done": 40, "total": 93}
        try:
            while True:
                yield {"done": 0, "total": 0, "fetching": {**fetching, "words": "40 of 93 MB"}}
                time.sleep(0.02)
        finally:
            closed.append(True)

    studio.model_process.token_lengths = count
    feed = LengthFeed(studio)
    wanted, told = json.loads(asked(dataset.id, Recipe().to_dict())), {}
    for _ in range(25):  # for longer than a download may go on unwatched
        told = feed.watch(wanted)
        time.sleep(0.02)
    assert told["fetching"] == "Downloading the starter model: 40 of 93 MB"
    assert told["share"] == pytest.approx(40 / 93) and not closed
    time.sleep(0.5)
    assert closed and "nobody was watching" in feed.watch(wanted)["error"]["what"]


def test_a_failed_count_is_reported_and_tried_again(studio, dataset, monkeypatch):
    def fail(dataset_id, fields):
        raise UserError("The Hub cannot be reached.", "model", "Choose another model.")
        yield

    studio.model_process.token_lengths = fail
    feed = LengthFeed(studio)
    wanted = json.loads(asked(dataset.id, Recipe().to_dict()))
    assert wait_for(feed, wanted)["error"]["what"] == "The Hub cannot be reached."
    monkeypatch.setattr(length_feed, "SECONDS_AN_ERROR_HOLDS", -1)
    assert feed.watch(wanted)["state"] in ("counting", "error")


def test_the_key_names_what_was_counted_and_not_the_limit():
    values = Recipe().to_dict()
    one, longer = (json.loads(asked("d", {**values, "max_length": n})) for n in (512, 99))
    other = json.loads(asked("d", {**values, "system_prompt": "Be brief."}))
    assert one["key"] == longer["key"] != other["key"] and longer["max_length"] == 99


def test_a_malformed_poll_is_ignored(studio):
    feed = LengthFeed(studio)
    for wanted in ({}, {"dataset": 3, "fields": {}}, {"dataset": "d", "fields": "x"}):
        assert feed.watch(wanted) == {"state": "none"}
