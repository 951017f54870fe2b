"""The command compare: its table, its JSON, its CSV, its exit codes."""

import json

import pytest
from compared_runs import evaluate, finished_run

from trainer_backend.comparison.as_csv import as_csv
from trainer_backend.comparison.compare import compare_runs


@pytest.fixture
def pair(home, dataset):
    low = finished_run(home, dataset, "Low", [2.0, 1.0], {2: 1.5}, learning_rate=1e-4)
    high = finished_run(home, dataset, "High", [2.0, 0.5], {2: 0.75}, learning_rate=1e-3)
    evaluate(low, right={1}, loss=1.25)
    evaluate(high, right={1, 2, 3}, loss=0.5)
    return low, high


def test_the_table_marks_the_best(call, pair):
    code, out, _ = call("compare", *(run.id for run in pair))
    lines = [line.split() for line in out.splitlines()]
    assert code == 0 and lines[0] == ["Low", "High"]
    assert ["Exact", "match", "25%", "75%", "*"] in lines
    assert ["Learning", "rate", "0.0001", "0.001"] in lines
    assert "No clear difference between “High” and “Low”" in out


def test_json_and_csv_are_those_of_the_library(call, home, pair, tmp_path):
    ids = [run.id for run in pair]
    found = compare_runs(home, ids)
    file = tmp_path / "numbers.csv"
    code, out, err = call("compare", ids[0], pair[1].dir, "--json", "--csv", file)
    assert code == 0 and json.loads(out) == json.loads(json.dumps(found.to_dict()))
    assert file.read_text() == as_csv(found) and "numbers.csv" in err
    assert call("compare", *ids, "--csv", "-")[1] == as_csv(found)


def test_mistakes_are_said(call, pair, tmp_path):
    code, out, err = call("compare", pair[0].id, "--json")
    assert code == 2 and json.loads(out)["error"]["what"] == "A comparison needs two runs."
    assert call("compare", pair[0].id, tmp_path)[0] == 2
    ids = [run.id for run in pair]
    code, _, err = call("compare", *ids, "--csv", tmp_path / "none" / "x.csv")
    assert code == 2 and "cannot be written" in err
