"""Runs beside each other: exact JSON, which scores compare, and what is said about the rest."""

import csv
import io
import json
import shutil

import pytest
from compared_runs import check_answers_as_before, evaluate, finished_run
from run_files import ROWS, append, set_state

from trainer_backend.comparison.as_csv import as_csv
from trainer_backend.comparison.compare import compare_runs
from trainer_backend.comparison.curves import thinned
from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.errors import UserError
from trainer_backend.home import write_json
from trainer_backend.runs.files import SPEC


@pytest.fixture
def low(home, dataset):
    """A run that answers 1 of its 4 rows right."""
    run = finished_run(home, dataset, "Low", [2.0, 1.0], {2: 1.5}, learning_rate=1e-4)
    evaluate(run, right={1}, loss=1.25)
    return run


@pytest.fixture
def high(home, dataset):
    """A run that answers 3 of its 4 rows right."""
    run = finished_run(home, dataset, "High", [2.0, 0.5], {2: 0.75}, learning_rate=1e-3)
    evaluate(run, right={1, 2, 3}, loss=0.5)
    return run


def compared(home, *runs):
    return compare_runs(home, [run.id for run in runs]).to_dict()


def test_the_contract_in_exact_numbers(home, low, high):
    found = compared(home, low, high)
    asked = ("id", "name", "state", "loss", "eval_loss", "metrics")
    assert [{name: one[name] for name in asked} for one in found["runs"]] == [
        {
            **{"id": low.id, "name": "Low", "state": "finished", "loss": 1.0, "eval_loss": 1.5},
            "metrics": {"loss": 1.25, "exact_match": 0.25},
        },
        {
            **{"id": high.id, "name": "High", "state": "finished", "loss": 0.5, "eval_loss": 0.75},
            "metrics": {"loss": 0.5, "exact_match": 0.75},
        },
    ]
    assert found["differences"] == {"learning_rate": [1e-4, 1e-3]}
    assert found["curves"] == {
        low.id: {"eval_loss": [[2, 1.5]], "loss": [[1, 2.0], [2, 1.0]]},
        high.id: {"eval_loss": [[2, 0.75]], "loss": [[1, 2.0], [2, 0.5]]},
    }
    assert found["settings"]["lora_r"] == [16, 16] and found["notes"] == []
    json.dumps(found, allow_nan=False)


def test_the_best_is_marked_where_scores_compare(home, low, high):
    scores = compared(home, low, high)["scores"]
    assert scores["compare"] == {"eval_loss": True, "loss": True, "exact_match": True}
    assert scores["best"] == {"eval_loss": [1], "loss": [1], "exact_match": [1]}
    assert scores["base"]["exact_match"] == [0.0, 0.0] and scores["shared"] == {}


def test_the_same_rows_stand_side_by_side(home, low, high):
    rows = compared(home, low, high)["answers"]
    assert [(row["row"], row["answers"]) for row in rows] == [
        *((1, ["1!", "1!"]), (2, ["no", "2!"]), (3, ["no", "3!"]), (4, ["no", "no"])),
    ]
    assert rows[1]["scores"] == [{"exact_match": 0.0}, {"exact_match": 1.0}]
    assert rows[1]["base"] == "no" and rows[1]["expected"] == "2!"


def test_a_lead_is_said_with_its_interval_and_a_small_one_as_unclear(home, low, high):
    [unclear] = compared(home, low, high)["findings"]
    assert unclear.startswith("No clear difference between “High” and “Low”: Exact match is 50 ")
    evaluate(low, right=set(), rows=range(1, 13))
    evaluate(high, right=set(range(1, 13)), rows=range(1, 13))
    assert compared(home, low, high)["findings"] == [
        "“High” is better than “Low”: Exact match 100 points higher "
        "(12 shared rows, 95 % interval 47.1 to 100)."
    ]


def test_over_other_rows_only_the_shared_ones_compare(home, low, high):
    evaluate(high, right={3, 4}, rows=[3, 4, 5])
    found = compared(home, low, high)
    scores = found["scores"]
    assert scores["compare"]["exact_match"] is False and "exact_match" not in scores["best"]
    assert scores["shared_rows"] == 2 and scores["shared"] == {"exact_match": [0.0, 1.0]}
    assert scores["shared_best"] == {"exact_match": [1]}
    assert "“Low” 4, “High” 3). 2 rows are the same" in found["notes"][0]


def test_runs_of_other_data_compare_on_what_both_were_asked(home, low):
    other = create_from_rows(home, [{"prompt": "a", "response": "b"}] * 40, name="others")
    run = finished_run(home, other, "Other", [1.0], {1: 0.1})
    evaluate(run, right={1, 2, 3, 4}, dataset="others")
    found = compared(home, low, run)
    assert found["differences"]["dataset"] == ["numbers", "others"] and found["answers"] == []
    assert not any(found["scores"]["compare"].values())
    assert found["notes"][0].endswith("neither scores nor losses compare.")
    asked = {"dataset_id": "test-set", "dataset": "Test set", "held_out": False}
    for one, right in ((low, {1, 2}), (run, {2})):
        evaluate(one, right=right, **asked)
    found = compared(home, low, run)
    assert found["scores"]["values"]["exact_match"] == [0.5, 0.25]
    assert found["scores"]["best"]["exact_match"] == [0] and len(found["answers"]) == 4
    assert "eval_loss" not in found["scores"]["best"] and "“Test set”" in found["notes"][0]


def test_data_of_one_name_and_other_rows_is_told_apart(home, low):
    other = create_from_rows(home, ROWS[:30], name="numbers")
    run = finished_run(home, other, "Other", [1.0])
    first, second = compared(home, low, run)["differences"]["dataset"]
    assert first != second and first.startswith("numbers (")


def test_losses_of_other_tokenizers_do_not_compare(home, dataset, low):
    run = finished_run(home, dataset, "Other", [1.0], {1: 0.1}, base_model="org/other-model")
    evaluate(run, right={1, 2}, loss=0.1)
    found = compared(home, low, run)
    assert found["scores"]["compare"] == {"eval_loss": False, "loss": False, "exact_match": True}
    assert found["scores"]["best"] == {"exact_match": [1]}
    assert found["answers"][0]["base"] == ""
    assert any("per token" in note and "org/other-model" in note for note in found["notes"])


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"assistant_only_loss": False}, "not over the same tokens"),
        ({"max_length": 64}, "where rows are cut"),
        ({"seed": 7}, "held out different rows"),
    ],
)
def test_settings_that_change_what_a_loss_is_over_are_said(home, dataset, low, settings, words):
    run = finished_run(home, dataset, "Other", [1.0], {1: 0.1}, **settings)
    evaluate(run, right={1, 2})
    found = compared(home, low, run)
    assert any(words in note for note in found["notes"])
    assert found["scores"]["compare"]["eval_loss"] is (words == "where rows are cut")


def test_runs_of_earlier_versions_take_part(home, dataset, low):
    old = finished_run(home, dataset, "Old", [1.0])
    check_answers_as_before(old, right={1, 2})
    found = compared(home, low, old)
    assert found["runs"][1]["metrics"] == {"exact_match": 0.5}
    assert found["scores"]["best"]["exact_match"] == [1]
    assert [row["answers"] for row in found["answers"]][1] == ["no", "2!"]
    check_answers_as_before(old, right={1}, rows=40)
    found = compared(home, low, old)
    assert found["scores"]["compare"]["exact_match"] is False
    assert "Of the 40 answers of “Old”, 4 were kept." in found["notes"]


def test_what_is_missing_or_gone_is_said(home, dataset, low, high):
    bare = finished_run(home, dataset, "Bare", [1.0])
    spec = bare.spec()
    write_json(bare.dir / SPEC, {**spec, "recipe": {**spec["recipe"], "base_model": "/gone/model"}})
    live = finished_run(home, dataset, "Live", [1.0])
    set_state(live, state="running")
    shutil.rmtree(dataset.dir)
    found = compared(home, low, high, bare, live)
    notes = "\n".join(found["notes"])
    assert "“Live” is still under way" in notes
    assert "“Bare” and “Live” have no evaluation yet" in notes
    assert "The data of “Low”, “High”, “Bare” and “Live” is no longer here" in notes
    assert "The base model of “Bare” is no longer on this machine" in notes
    assert found["scores"]["values"]["exact_match"] == [0.25, 0.75, None, None]
    assert found["scores"]["best"]["exact_match"] == [1]
    assert found["answers"][0]["answers"] == ["1!", "1!", None, None]


def test_runs_of_one_name_are_told_apart(home, low, high):
    high.rename("Low")
    labels = [one["label"] for one in compared(home, low, high)["runs"]]
    assert labels == [f"Low ({low.id[-6:]})", f"Low ({high.id[-6:]})"]


@pytest.mark.parametrize("count, what", [(0, "two runs"), (1, "two runs"), (7, "too many")])
def test_two_to_six_runs(home, low, count, what):
    with pytest.raises(UserError, match=what):
        compare_runs(home, [low.id] * count)


def test_each_run_once_and_only_known_ones(home, low):
    with pytest.raises(UserError, match="named twice"):
        compare_runs(home, [low.id, low.id])
    with pytest.raises(UserError, match="no such run"):
        compare_runs(home, [low.id, "run-gone"])
    with pytest.raises(UserError, match="no such run"):
        compare_runs(home, [low.id, "../x"])


def test_curves_grow_go_back_at_a_resume_and_leave_out_what_is_no_number(home, low, high):
    compared(home, low, high)
    append(low, {"type": "metrics", "step": 3, "loss": 9.0})
    append(low, {"type": "resumed", "step": 2})
    append(low, {"type": "metrics", "step": 3, "loss": 0.75}, {"type": "metrics", "step": 4})
    assert compared(home, low, high)["curves"][low.id]["loss"] == [[1, 2.0], [2, 1.0], [3, 0.75]]


def test_thinned_curves_keep_their_ends_and_extremes():
    points = [(step, 1.0) for step in range(10_000)]
    points[5_003], points[7_777] = (5_003, 9.0), (7_777, -9.0)
    kept = thinned(points, 100)
    assert len(kept) <= 100 and (kept[0], kept[-1]) == (points[0], points[-1])
    assert points[5_003] in kept and points[7_777] in kept
    assert thinned(points[:100], 100) == points[:100]


def test_all_numbers_as_csv(home, low, high):
    low.rename("=Low")
    rows = list(csv.reader(io.StringIO(as_csv(compare_runs(home, [low.id, high.id])))))
    assert rows[0] == ["kind", "name", "step", low.id, high.id]
    assert rows[1] == ["run", "name", "", "'=Low", "High"]
    for row in (
        ["score", "exact_match", "", "0.25", "0.75"],
        ["base score", "exact_match", "", "0.0", "0.0"],
        ["setting", "learning_rate", "", "0.0001", "0.001"],
        ["curve", "loss", "2", "1.0", "0.5"],
        ["curve", "eval_loss", "2", "1.5", "0.75"],
    ):
        assert row in rows
