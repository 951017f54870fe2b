"""Formats: detected by column names and values, described in a sentence, never guessed."""

import json

import pytest
from reading_cases import BOT, USER

from trainer_backend.data.formats.detection import detect_format
from trainer_backend.data.formats.example import to_example
from trainer_backend.data.formats.mapping import ColumnMapping, check_mapping, describe_mapping
from trainer_backend.data.json_values import NumberText
from trainer_backend.errors import RowError, UserError


def found(*rows: dict):
    return detect_format(rows)


def messages(row: dict, **options) -> list[dict]:
    return to_example(1, row, detect_format([row]).mapping, **options).messages


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [
        ("prompt", "response"),
        ("prompt", "completion"),
        ("question", "answer"),
        ("Question", "Answer"),
        ("query", "response"),
        ("input", "output"),
        ("User Message", "assistant-message"),
        ("instruction", "response"),
        ("problem", "solution"),
        ("human", "bot"),
        ("PROMPT ", "Reply"),
        ("Frage", "Antwort"),
        ("问题", "答案"),
    ],
)
def test_pairs_under_their_names(prompt, completion):
    row = {prompt: " 007\n", completion: "NA "}
    detection = found(row)
    assert detection.sure and f"“{prompt}”" in detection.sentence
    assert f"answer from “{completion}”" in detection.sentence
    assert messages(row) == [
        {"role": "user", "content": " 007\n"},
        {"role": "assistant", "content": "NA "},
    ]


def test_sentence_names_what_is_not_used():
    detection = found({"id": "1", "question": "a", "answer": "b"})
    assert detection.sentence == (
        "Prompt and response pairs: prompt from “question”, answer from “answer”. Not used: “id”."
    )


def test_names_are_shown_as_they_are_but_not_at_length():
    columns = ["prompt", "response", "System"]
    mapping = detect_format([dict.fromkeys(columns, "a")]).mapping
    assert describe_mapping(mapping, columns).endswith("System message from “System”.")
    detection = found({"x" * 10_000: "a", "y": "b"})
    assert len(detection.sentence) < 300 and "not a header" in detection.sentence
    assert found({f"c{at}": "a" for at in range(900)}).sentence.count("“") == 12


def test_alpaca_with_and_without_input():
    row = {"instruction": "Add", "input": "1 2", "output": "3"}
    detection = found(row, {"instruction": "Go", "input": "", "output": "x"})
    assert detection.mapping == ColumnMapping(
        "alpaca", {"prompt": "instruction", "completion": "output", "input": "input"}
    )
    assert messages(row)[0]["content"] == "Add\n\n1 2"
    assert messages(row | {"input": ""})[0]["content"] == "Add"
    assert messages({"instruction": "a", "context": "b", "response": "c"})[0]["content"] == "a\n\nb"
    assert found({"instruction": "a", "output": "b"}).mapping.format == "alpaca"


def test_system_column_and_system_prompt():
    row = {"system": "Be kind", "prompt": "a", "response": "b"}
    assert messages(row)[0] == {"role": "system", "content": "Be kind"}
    assert messages(row | {"system": ""}, system_prompt="Short")[0]["content"] == "Short"
    assert messages(row, system_prompt="Short")[0]["content"] == "Be kind"
    assert len(messages(row | {"system": None})) == 2


@pytest.mark.parametrize("wrap", [list, json.dumps])
def test_messages_as_list_or_json_text(wrap):
    row = {"messages": wrap([USER, BOT]), "id": 3}
    assert found(row).mapping == ColumnMapping("messages", {"messages": "messages"})
    assert messages(row) == [USER, BOT]


def test_sharegpt_roles_are_mapped():
    turns = [
        {"from": "system", "value": "s"},
        {"from": "human", "value": "h"},
        {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
        {"from": "observation", "value": "1"},
        {"from": "gpt", "value": "g"},
    ]
    row = {"conversations": turns}
    assert found(row).mapping.format == "sharegpt"
    assert [m["role"] for m in messages(row)] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    call = messages(row)[2]["tool_calls"][0]["function"]
    assert call == {"name": "f", "arguments": {"x": 1}}


def test_openai_chat_with_tools_is_kept():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    chat = [
        {"role": "developer", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "ok"},
        BOT | {"weight": None},
    ]
    tools = [{"type": "function", "function": {"name": "f"}}]
    row = {"messages": chat, "tools": json.dumps(tools)}
    mapping = found(row).mapping
    assert mapping.roles == {"messages": "messages", "tools": "tools"}
    example = to_example(7, row, mapping)
    assert example.tools == tools and example.row == 7 and example.text is None
    assert example.messages[0]["role"] == "system" and example.messages[1]["content"] == "ab"
    as_object = call | {"function": {"name": "f", "arguments": {}}}
    assert example.messages[2] == {"role": "assistant", "content": "", "tool_calls": [as_object]}
    assert example.messages[4] == BOT


def test_prompt_and_completion_as_messages():
    row = {"prompt": [USER], "completion": [BOT]}
    assert found(row).sure and messages(row) == [USER, BOT]
    assert messages({"prompt": [USER], "completion": "x"} | {"completion": [BOT]}) == [USER, BOT]


def test_plain_text():
    row = {"text": " as it is \n"}
    assert found(row).mapping.format == "text"
    example = to_example(1, row, found(row).mapping)
    assert example.text == " as it is \n" and example.messages is None


def test_values_that_are_not_text():
    assert messages({"prompt": 7, "response": NumberText("1.10")})[1]["content"] == "1.10"
    assert messages({"prompt": True, "response": {"a": [1]}})[1]["content"] == '{"a":[1]}'


@pytest.mark.parametrize(
    "row",
    [
        {"foo": "a", "bar": "b"},
        {"prompt": "a"},
        {"answer": "a"},
        {"question": "a", "prompt": "b", "answer": "c"},
        {"prompt": "a", "answer": "b", "response": "c"},
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"text": "a", "label": "b"},
        {"text": "a", "content": "b"},
        {"chat": [USER, BOT], "messages2": [USER, BOT], "turns": [USER, BOT]},
        {"a": None},
        {},
    ],
)
def test_unsure_asks_the_user(row):
    detection = found(row)
    assert not detection.sure
    assert "choose which column" in detection.sentence
    if detection.mapping:
        check_mapping(detection.mapping, detection.columns, "x")


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"prompt": "a", "response": ""}, "The answer is empty."),
        ({"prompt": "a", "response": None}, "The answer is empty."),
        ({"prompt": "a", "response": " \n"}, "The answer is empty."),
        ({"prompt": "a"}, "The answer is missing."),
        ({"prompt": "", "response": "b"}, "The prompt is empty."),
    ],
)
def test_bad_pairs(row, what):
    mapping = ColumnMapping("prompt_completion", {"prompt": "prompt", "completion": "response"})
    with pytest.raises(RowError) as caught:
        to_example(1, row, mapping)
    assert caught.value.what == what and caught.value.fix


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (None, "conversation is empty"),
        ([], "conversation is empty"),
        ("", "conversation is empty"),
        ("hello", "is text, not a list"),
        ("{}", "is not a list"),
        (5, "is not a list"),
        ([5], "not an object"),
        (["hello"], "a text without a role"),
        ([{"content": "a"}], "has no role"),
        ([{"role": "wizard", "content": "a"}], "Unknown role “wizard”"),
        ([{"role": 3, "content": "a"}], "Unknown role “3”"),
        ([USER], "no assistant message"),
        ([{"role": "user"}, BOT], "user message is empty"),
        ([USER, {"role": "assistant", "content": ""}], "answer is empty"),
        ([USER, {"role": "assistant", "content": None}], "answer is empty"),
        ([{"role": "user", "content": [{"type": "image_url"}]}, BOT], "image"),
        ([{"role": "user", "content": [{"type": "strange"}]}, BOT], "other than text"),
        ([USER, {"from": "function_call", "value": "no json"}], "function call is not JSON"),
    ],
)
def test_bad_conversations(value, what):
    with pytest.raises(RowError) as caught:
        to_example(1, {"messages": value}, ColumnMapping("messages", {"messages": "messages"}))
    assert what in caught.value.what and caught.value.fix


@pytest.mark.parametrize("tools", ["no json", "5", [1]])
def test_bad_tools(tools):
    mapping = ColumnMapping("messages", {"messages": "m", "tools": "t"})
    with pytest.raises(RowError):
        to_example(1, {"m": [USER, BOT], "t": tools}, mapping)
    assert to_example(1, {"m": [USER, BOT], "t": ""}, mapping).tools is None


def test_empty_text_row():
    with pytest.raises(RowError):
        to_example(1, {"text": " "}, ColumnMapping("text", {"text": "text"}))


@pytest.mark.parametrize(
    ("format", "roles"),
    [
        ("poem", {"prompt": "a"}),
        ("prompt_completion", {"prompt": "a"}),
        ("prompt_completion", {"prompt": "a", "completion": "gone"}),
        ("prompt_completion", {"prompt": "a", "completion": "a"}),
        ("text", {"text": "a", "wizard": "b"}),
        ("messages", {"messages": ""}),
    ],
)
def test_wrong_mappings_are_refused(format, roles):
    with pytest.raises(UserError) as caught:
        check_mapping(ColumnMapping(format, roles), ["a", "b"], "x.csv")
    assert caught.value.where == "x.csv" and caught.value.fix
