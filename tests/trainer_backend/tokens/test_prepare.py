"""Whole datasets: shapes of rows, what is dropped, and errors that name the row."""

import json

import pytest
from datasets import Dataset, IterableDataset

from trainer_backend.data.formats.example import as_example
from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.encode import EncodeOptions
from trainer_backend.tokens.prepare import Preparation, prepare_dataset, refuse_masks_without_labels

USER, ANSWER = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}
IN_PARTS = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Hi"}]}
BROKEN = {"role": "user", "content": "half of an emoji: \ud83d"}
PAIR = {"prompt": [USER], "completion": [ANSWER]}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": [USER, ANSWER]}, {"messages": [USER, ANSWER]}),
        ({"messages": json.dumps([USER, ANSWER])}, {"messages": [USER, ANSWER]}),
        (
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]},
            {"messages": [USER, ANSWER]},
        ),
        ({"prompt": "Hi", "completion": "Yo"}, {"prompt": "Hi", "completion": "Yo"}),
        ({"prompt": [USER], "completion": [ANSWER]}, PAIR),
        ({"prompt": [USER], "completion": "Yo"}, PAIR),
        ({"prompt": "Hi", "completion": [ANSWER]}, PAIR),
        ({"prompt": json.dumps([USER]), "completion": json.dumps([ANSWER])}, PAIR),
        ({"prompt": "[{x", "completion": "Yo"}, {"prompt": "[{x", "completion": "Yo"}),
        ({"prompt": "[{}]", "completion": "Yo"}, {"prompt": "[{}]", "completion": "Yo"}),
        ({"prompt": "Hi", "response": "Yo"}, PAIR),
        (
            {"instruction": "Hi", "input": "there", "output": "Yo"},
            {"prompt": [{"role": "user", "content": "Hi\n\nthere"}], "completion": [ANSWER]},
        ),
        ({"instruction": "Hi", "input": "", "output": "Yo"}, PAIR),
        ({"text": "Hi", "other": 1}, {"text": "Hi"}),
        ({"messages": [USER], "tools": "[]", "other": 1}, {"messages": [USER]}),
        (
            {"messages": [USER], "tools": '[{"name": "f"}]'},
            {"messages": [USER], "tools": [{"type": "function", "function": {"name": "f"}}]},
        ),
        ({"input_ids": [1], "labels": None, "x": 2}, {"input_ids": [1]}),
    ],
)
def test_every_shape_of_a_row(row, expected):
    assert as_example(row) == expected


def test_without_a_template_pairs_are_joined_as_text():
    assert as_example({"prompt": "Hi", "response": "Yo"}, chat=False) == {
        "prompt": "Hi\n",
        "completion": "Yo",
    }
    assert as_example({"prompt": "Hi ", "response": "Yo"}, chat=False)["prompt"] == "Hi "


def test_the_named_text_column_wins():
    row = {"body": "Hello", "prompt": "Hi", "completion": "Yo"}
    assert as_example(row, "body") == {"text": "Hello"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"foo": 1, "bar": 2}, "columns foo, bar"),
        ({"messages": [{"content": "Hi"}]}, "no role"),
        ({"messages": '{"a": 1}'}, "not a list of messages.*“messages”"),
        ({"messages": ["hello"]}, "a text without a role"),
        ({"messages": [None]}, "not an object"),
        ({"messages": [{"role": ["user"], "content": "Hi"}]}, "Unknown role"),
        ({"messages": [{"role": "wizard", "content": "Hi"}]}, "Unknown role “wizard”"),
        ({"messages": [{"role": "user", "content": 5}]}, "holds 5, not text"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "no column “images”"),
        ({"prompt": "Hi", "completion": 1.5}, "holds 1.5, not text.*“completion”"),
        ({"prompt": "Hi", "response": float("nan")}, "holds nan, not text.*“response”"),
        ({"prompt": "Hi", "completion": ["Yo"]}, "holds .*, not text.*“completion”"),
        ({"prompt": 5, "completion": "Yo"}, "holds 5, not text.*“prompt”"),
        ({"instruction": 5, "output": "Yo"}, "holds 5, not text.*“instruction”"),
    ],
)
def test_rows_nobody_can_read(row, message):
    with pytest.raises(TrainingDataError, match=message):
        as_example(row)


def plan(tokenizer, **settings) -> Preparation:
    names = ("max_length", "assistant_only_loss", "completion_only_loss")
    options = {name: settings.pop(name) for name in names if name in settings}
    return Preparation(tokenizer, EncodeOptions(**options), **settings)


def test_columns_rows_and_counts(tokenizer):
    rows = [{"prompt": "Hi", "completion": "Yo", "id": i} for i in range(3)]
    rows[1]["prompt"] = "Explain " * 20
    dataset, counts = prepare_dataset(rows, plan(tokenizer, max_length=12))
    assert (counts.rows, counts.cut, counts.dropped) == (3, 1, 1)
    assert dataset["id"][:] == [0, 2]
    assert set(dataset.column_names) == {"prompt", "completion", "id", "input_ids", "labels"}


def test_packing_keeps_only_tokens(tokenizer):
    rows = [{"text": "Hi there"}] * 6
    dataset, _ = prepare_dataset(rows, plan(tokenizer, packing="bfd", pack_length=32))
    assert set(dataset.column_names) == {"input_ids", "labels", "seq_lengths"}
    assert [sum(row) for row in dataset["seq_lengths"]] == [
        len(row) for row in dataset["input_ids"]
    ]


def test_a_stream_gives_the_same_rows(tokenizer):
    rows = [{"text": "Hi there"}, {"text": "Paris."}]
    stream = IterableDataset.from_generator(lambda: iter(rows))
    prepared, _ = prepare_dataset(stream, plan(tokenizer))
    table, _ = prepare_dataset(rows, plan(tokenizer))
    assert [row["input_ids"] for row in prepared] == table["input_ids"][:]
    packed, _ = prepare_dataset(stream, plan(tokenizer, packing="bfd", pack_length=32))
    assert len(next(iter(packed))["seq_lengths"]) == 2


def test_two_processes_prepare_the_same_rows(tokenizer):
    rows = [{"text": f"Paris {number}"} for number in range(1100)]
    seen = []
    one, _ = prepare_dataset(rows, plan(tokenizer, on_rows=seen.append))
    two, _ = prepare_dataset(rows, plan(tokenizer, num_proc=2, on_rows=lambda done: 1 / 0))
    assert one["input_ids"][:] == two["input_ids"][:]
    assert seen == [1000, 1100]


def test_formatting_func_makes_the_text(tokenizer):
    dataset, _ = prepare_dataset(
        [{"a": "Hi", "b": "Yo"}], plan(tokenizer, formatting_func=lambda row: row["a"] + row["b"])
    )
    assert tokenizer.decode(dataset[0]["input_ids"]) == "HiYo<|im_end|>"


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([PAIR, {**PAIR, "completion": [USER]}], {"assistant_only_loss": True}, "row 2"),
        ([{"text": "a"}, {"foo": "b", "text": None}], {}, "row 2"),
        ([{"input_ids": [1, 2]}, {"input_ids": [1, 999]}], {"vocabulary": 400}, "row 2"),
        ([{"input_ids": [1, 2], "labels": [-100, -100]}], {}, "No row of the train dataset"),
        ([{"messages": [USER, ANSWER]}, {"messages": [IN_PARTS]}], {}, "no column “im.*row 2"),
        ([{"messages": [USER]}, {"messages": [BROKEN]}], {}, "half a character.*row 2"),
        ([{"input_ids": [0.5, 2.0]}], {}, "row 1.*“input_ids”"),
        ([{"input_ids": [[1, 2]]}], {}, "row 1.*“input_ids”"),
        ([{"input_ids": [1, 2**40]}], {}, "row 1.*“input_ids”"),
        ([{"input_ids": [1, 2], "labels": ["a", "b"]}], {}, "row 1.*“labels”"),
        ([{"messages": [USER, ANSWER], "tools": ["add"]}], {}, "row 1.*“tools”"),
        ([{"messages": [USER, ANSWER], "tools": "hammer, saw"}], {}, "row 1.*“tools”"),
        ([{"messages": [USER, ANSWER], "chat_template_kwargs": [1]}], {}, "row 1.*kwargs”"),
    ],
)  # fmt: skip
def test_nothing_trains_on_nonsense(tokenizer, rows, settings, message):
    with pytest.raises(ValueError, match=message):
        prepare_dataset(rows, plan(tokenizer, **settings))


def test_a_row_that_the_template_refuses_is_named(tokenizer):
    tokenizer.chat_template = "{% if messages|length > 2 %}{{ raise_exception('long') }}{% endif %}"
    rows = [{"messages": [USER, ANSWER]}, {"messages": [USER, ANSWER, USER, ANSWER]}]
    with pytest.raises(TrainingDataError, match="refuses this conversation: long.*row 2"):
        prepare_dataset(rows, plan(tokenizer))


def test_a_table_with_a_transform_is_refused():
    with pytest.raises(ValueError, match="with_transform"):
        prepare_dataset(Dataset.from_list([{"text": "a"}]).with_transform(lambda x: x), None)


def test_masks_without_labels_are_refused():
    masked = Dataset.from_list([{"input_ids": [1], "completion_mask": [1]}])
    with pytest.raises(ValueError, match="masks but no labels"):
        refuse_masks_without_labels(masked, "train")


def test_a_template_without_end_of_turn_is_a_loud_warning(tokenizer, caplog):
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    )
    prepare_dataset([{"messages": [USER, ANSWER]}], plan(tokenizer, assistant_only_loss=True))
    assert "will not learn to stop" in caplog.text
    caplog.clear()
    prepare_dataset([{"text": "Hi"}], plan(tokenizer))
    assert "learn to stop" not in caplog.text
