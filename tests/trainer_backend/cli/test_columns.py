"""--columns and --chosen: what the page decides about columns, on the terminal."""

import json
import shlex

import pytest

from trainer_backend.data.store import list_datasets, open_dataset


def put(folder, name, rows):
    path = folder / name
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


@pytest.fixture
def unclear(tmp_path):
    rows = [
        {"user says": f"What is {at}?", "our reply": f"It is {at}.", "id": at} for at in range(12)
    ]
    return put(tmp_path, "unclear.json", rows)


@pytest.fixture
def kto(tmp_path):
    rows = [
        {
            "prompt": f"Name number {at}",
            "completion": "no" if at % 3 else f"{at}.",
            "label": not at % 3,
        }
        for at in range(12)
    ]
    return put(tmp_path, "kto.json", rows)


def report(call, *arguments):
    code, out, _ = call("check", *arguments, "--json")
    return code, json.loads(out)


def test_an_unclear_file_says_which_line_helps(call, unclear):
    code, found = report(call, unclear)
    assert code == 2 and found["suggested_columns"] == "prompt=user says,completion=our reply"
    assert found["problems"][0]["code"] == "columns_unclear"
    line = f"--columns '{found['suggested_columns']}'"
    assert line in call("check", unclear)[1]
    for command in (["prepare", unclear, "--out", unclear.parent / "x.jsonl"],
                    ["train", "quick_try", "--data", unclear]):  # fmt: skip
        code, _, told = call(*command)
        assert code == 2 and line in told
    code, found = report(call, unclear, "--columns", found["suggested_columns"])
    assert code == 0 and found["examples"] == 12 and found["suggested_columns"] is None
    assert found["ignored_columns"] == ["id"] and "Not used: “id”." in found["sentence"]


def test_where_nothing_is_certain_no_columns_are_suggested(call, tmp_path):
    rows = [{"Ticket #": f"T-{at}", "created": f"2024-03-{at:02}"} for at in range(1, 12)]
    path = put(tmp_path, "tickets.json", rows)
    code, found = report(call, path)
    assert code == 2 and found["suggested_columns"] is None
    assert "--columns prompt=COLUMN,completion=COLUMN" in call("check", path)[1]


def test_the_line_can_be_pasted_into_a_shell(call, tmp_path):
    rows = [{"Kunde, Frage": f"What is {at}?", "Antwort": f"It is {at}."} for at in range(9)]
    path = put(tmp_path, "spaces.json", rows)
    code, found = report(call, path)
    told = found["problems"][0]["fix"].partition("In the terminal: ")[2]
    assert code == 2 and told.startswith("--columns '")
    assert report(call, path, *shlex.split(told))[1]["examples"] == 9


def test_columns_are_those_of_the_file(call, unclear):
    for line, words in (
        ("prompt=user says,completion=drei", "Choose one of “user says”, “our reply”"),
        ("prompt=user says", "No column is chosen for the completion"),
        ("question=user says,completion=our reply", "Unknown role “question”"),
    ):
        code, _, told = call("check", unclear, "--columns", line)
        assert code == 2 and words in told


def test_prepare_writes_the_columns_asked_for(call, unclear):
    out = unclear.parent / "out.jsonl"
    line = ("--columns", "prompt=our reply", "--columns", "completion=user says")
    assert call("prepare", unclear, "--out", out, *line)[0] == 0
    first = json.loads(out.read_text("utf-8").splitlines()[0])
    assert first["messages"][0] == {"role": "user", "content": "It is 0."}


def test_a_stored_dataset_takes_other_columns(call, home, unclear):
    report(call, unclear)
    stored = list_datasets(home)[0]
    code, found = report(call, stored.id, "--columns", "text=our reply")
    assert code == 0 and found["format"] == "text"
    assert open_dataset(home, found["dataset_id"]).parent == stored.id


def test_chosen_answers(call, kto, unclear):
    code, found = report(call, kto)
    assert code == 2 and found["problems"][0]["code"] == "preference_data"
    assert "--chosen" in call("check", kto)[1]
    code, found = report(call, kto, "--chosen")
    bad = next(one for one in found["problems"] if one["code"] == "rejected_answer")
    assert code == 0 and found["examples"] == 4 and bad["rows"] == [2, 3, 5, 6, 8, 9, 11, 12]
    code, _, told = call("check", unclear, "--chosen")
    assert code == 2 and "does not look like preference data" in told
