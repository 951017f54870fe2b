"""What may be given as a dataset, and the row that is named when it makes no table."""

import json

import pytest
from datasets import Dataset

from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.inputs import as_dataset, holds_datasets

TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]


@pytest.mark.parametrize("data", [[{"text": "a"}, {"text": "b"}], {"text": ["a", "b"]}])
def test_rows_and_columns_are_one_table(data):
    assert as_dataset(data)["text"][:] == ["a", "b"]
    table = Dataset.from_dict({"text": ["a"]})
    assert as_dataset(table) is table


def test_messages_of_several_shapes_become_json_text():
    rows = [{"messages": TALK}, {"messages": PARTS}]
    for data in (rows, {"messages": [TALK, PARTS]}):
        first, second = as_dataset(data)["messages"][:]
        assert first.startswith('[{"role": "user", "content": "Hi"}') and '"type"' in second


@pytest.mark.parametrize(
    ("data", "what", "where"),
    [
        ([{"response": "a"}, {"response": float("nan")}], "“response” is nan", "row 2"),
        ({"text": ["a", None, 1]}, "“text” is 1 here, and text in earlier rows", "row 3"),
        ([{"messages": TALK}, {"messages": 5}], "“messages” is 5", "row 2"),
        ([{"x": 1}, {"x": "a"}], "“x” is 'a' here, and a number in earlier rows", "row 2"),
        ([{"x": 1}, {"x": 2**70}], "do not fit into one table", "train dataset"),
        ([{"text": "a"}, {"text": "\ud800"}], "half a character", "row 2"),
        ({"text": ["a", "\ud800"]}, "half a character", "row 2"),
        ({"text": ["a", "b"], "x": [1]}, "text 2, x 1", "train dataset"),
    ],
)  # fmt: skip
def test_rows_that_make_no_table_are_named(data, what, where):
    with pytest.raises(TrainingDataError) as caught:
        as_dataset(data)
    assert what in caught.value.what and where in caught.value.where


def test_what_is_no_container():
    for data in ("alpaca", [1], 5):
        with pytest.raises(TypeError, match="The train dataset must be"):
            as_dataset(data)


def test_several_held_out_datasets_are_told_from_columns():
    table = Dataset.from_dict({"text": ["a"]})
    assert holds_datasets({"one": table, "two": [{"text": "a"}]})
    assert not holds_datasets({"text": ["a"], "tags": [["b"]]})
    assert not holds_datasets(table)


def test_nulls_among_the_arguments_of_calls_are_kept():
    def row(arguments: dict) -> dict:
        call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
        turns = [{"role": "user", "content": "x"}]
        return {"messages": [*turns, {"role": "assistant", "content": "", "tool_calls": [call]}]}

    rows = [row({"a": None}), row({"b": 1})]
    data = as_dataset(rows)
    assert [json.loads(cell) for cell in data["messages"]] == [one["messages"] for one in rows]
