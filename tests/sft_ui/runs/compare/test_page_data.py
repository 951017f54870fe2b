"""What the page gets of a comparison: numbers in words, short rows, a stamp of what changed."""

import json

import pytest
from compared_runs import evaluate, finished_run
from run_files import append

from sft_ui.runs.compare.component import answer
from trainer_backend.comparison.as_csv import as_csv
from trainer_backend.comparison.compare import compare_runs
from trainer_backend.runs.notes import write_notes


@pytest.fixture
def pair(home, dataset):
    low = finished_run(home, dataset, "Low", [2.0, 1.0], {2: 1.5}, learning_rate=1e-4)
    high = finished_run(home, dataset, "High", [2.0, 0.5], {2: 0.75}, learning_rate=1e-3)
    evaluate(low, right={1})
    evaluate(high, right={1, 2, 3})
    return [low.id, high.id]


def test_numbers_come_in_words_and_the_best_is_marked(studio, pair):
    found = answer(studio, {"runs": pair})
    json.dumps(found, allow_nan=False)
    exact = next(one for one in found["scores"] if one["name"] == "Exact match")
    assert (exact["values"], exact["best"], exact["base"]) == (["25%", "75%"], [1], ["0%", "0%"])
    differing = [one for one in found["settings"] if one["differs"]]
    assert [(one["name"], one["values"]) for one in differing] == [
        ("Learning rate", ["0.0001", "0.001"])
    ]
    assert [row["differs"] for row in found["answers"]] == [False, True, True, False]
    assert found["answers"][1]["scores"] == [0.0, 1.0] and found["live"] is False


def test_the_csv_is_that_of_the_command_line(studio, pair):
    assert answer(studio, {"runs": pair, "what": "csv"}) == {
        "csv": as_csv(compare_runs(studio.home, pair))
    }


def test_one_row_comes_whole(studio, pair):
    row = answer(studio, {"runs": pair, "what": "row", "at": 1})
    assert row["answers"] == ["no", "2!"] and row["expected"] == "2!"
    assert row["scores"] == [["Exact match 0%"], ["Exact match 100%"]]
    assert answer(studio, {"runs": pair, "what": "row", "at": 99}) == {}


def test_a_stamp_is_answered_until_something_changes(studio, pair):
    stamp = answer(studio, {"runs": pair})["stamp"]
    again = {"runs": pair, "stamp": stamp}
    assert answer(studio, again) == {"same": True}
    run = compare_runs(studio.home, pair).compared[0].run
    append(run, {"type": "metrics", "step": 3, "loss": 0.25})
    found = answer(studio, again)
    assert found["curves"][pair[0]]["loss"][-1] == (3, 0.25)
    write_notes(run.dir, "a note", "tag")
    assert answer(studio, {"runs": pair, "stamp": found["stamp"]})["runs"][0]["tags"] == ["tag"]


@pytest.mark.parametrize("asked", [None, {}, {"runs": "x"}, {"runs": ["../x", "run-gone"]}])
def test_mistakes_come_in_words(studio, asked):
    assert set(answer(studio, asked)["error"]) >= {"what", "where", "fix"}
