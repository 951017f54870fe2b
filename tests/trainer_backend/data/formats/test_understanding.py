"""Converting rows: tools, reasoning, train marks, images, mixed files; cases 57, 66 and 68."""

import base64
import json
from dataclasses import asdict

import pytest
from reading_cases import BOT, USER, detected, put

from trainer_backend.data.checks.checker import check_examples
from trainer_backend.data.formats.detection import detect_format
from trainer_backend.data.formats.example import to_example
from trainer_backend.data.formats.mapping import ColumnMapping, check_mapping, describe_mapping
from trainer_backend.data.images import ImageBytes
from trainer_backend.data.json_values import to_json
from trainer_backend.data.readers.files import read_rows
from trainer_backend.errors import RowError, UserError

CHAT = ColumnMapping("messages", {"messages": "messages"})
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
DATA_URL = "data:image/png;base64," + base64.b64encode(PNG).decode()


def chat(*turns: dict, **columns):
    return to_example(1, {"messages": list(turns), **columns}, CHAT)


def refused(*turns: dict) -> str:
    with pytest.raises(RowError) as caught:
        chat(*turns)
    assert caught.value.fix
    return caught.value.what


@pytest.mark.parametrize(
    "call",
    [
        {"type": "function", "function": {"name": "f", "arguments": '{"x": 1.10}'}},
        {"function": {"name": "f", "arguments": {"x": 1.5}}},
        {"name": "f", "arguments": '{"x": 2}'},
        {"name": "f", "parameters": {"x": 2}},
        '{"name": "f", "arguments": {"x": 2}}',
    ],
)
def test_tool_calls_are_brought_into_the_form_templates_expect(call):
    calling = {"role": "assistant", "content": None, "tool_calls": [call]}
    (found,) = chat(USER, calling, {"role": "tool", "content": ""}, BOT).messages[1]["tool_calls"]
    assert found["type"] == "function" and found["function"]["name"] == "f"
    assert set(found["function"]["arguments"]) == {"x"}


def test_tool_calls_keep_their_id_and_may_have_no_arguments():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    answer = {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "1"}
    messages = chat(USER, {"role": "assistant", "tool_calls": [call]}, answer, BOT).messages
    assert messages[1]["tool_calls"][0] == call | {"function": {"name": "f", "arguments": {}}}
    assert messages[2] == answer


def test_tools_beside_a_pair_and_bare_functions():
    function = {"name": "f", "description": "d", "parameters": {}}
    row = {"prompt": "a", "response": "b", "functions": json.dumps([function])}
    found = detect_format([row])
    assert "Tools from “functions”." in found.sentence
    assert to_example(1, row, found.mapping).tools == [{"type": "function", "function": function}]
    assert "tools" not in detect_format([row | {"functions": "hammer, saw"}]).mapping.roles


@pytest.mark.parametrize(
    ("calls", "what"),
    [
        (5, "not a list"),
        ([5], "not JSON with a name"),
        (["{broken"], "not JSON with a name"),
        ([{"name": "f", "arguments": "{broken"}], "arguments of a function call are not JSON"),
        ([{"name": "f", "arguments": "[1]"}], "not an object"),
        ([{"function": {"arguments": {}}}], "not JSON with a name"),
    ],
)
def test_broken_tool_calls_are_refused(calls, what):
    assert what in refused(USER, {"role": "assistant", "content": "", "tool_calls": calls}, BOT)


def test_reasoning_is_kept_as_given():
    answer = BOT | {"reasoning_content": " so\n", "name": "x"}
    assert chat(USER, answer).messages[1] == answer
    two = BOT | {"reasoning_content": "so", "thinking": "hm"}
    assert "“reasoning_content” and in “thinking”, and they differ" in refused(USER, two)
    assert chat(USER, BOT | {"content": "<think>a</think>b"}).messages[1]["content"].startswith("<")


@pytest.mark.parametrize("mark", [{"train": False}, {"weight": 0}, {"weight": 0.0},
                                  {"training": False}])  # fmt: skip
def test_messages_that_are_not_to_be_trained(mark):
    messages = chat(USER, BOT | mark, USER, BOT | {"train": True, "weight": 1}).messages
    assert messages[1] == BOT | {"train": False} and messages[3] == BOT
    assert "marked as not to be trained" in refused(USER, BOT | mark)
    assert "other than true, false, 0 or 1" in refused(USER, BOT | {"weight": 0.5})


def test_messages_written_as_columns():
    value = {"role": ["user", "assistant"], "content": ["Hi", "Hello"]}
    found = detect_format([{"messages": value}])
    assert found.sure and to_example(1, {"messages": value}, found.mapping).messages == [USER, BOT]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [USER], "completion": "Hello"},
        {"prompt": [USER], "completion": [BOT]},
        {"prompt": "Hi", "completion": [BOT]},
        {"question": json.dumps([USER]), "answer": "Hello"},
    ],
)
def test_prompt_and_answer_as_messages_or_text(row):
    found = detect_format([row])
    assert found.mapping.format == "prompt_completion" and found.sure
    assert to_example(1, row, found.mapping).messages == [USER, BOT]


def test_a_system_prompt_for_all_rows_and_a_system_column():
    row = {"messages": [USER, BOT], "system_prompt": "Own"}
    found = detect_format([row])
    assert "System message from “system_prompt”." in found.sentence
    assert to_example(1, row, found.mapping, "All").messages[0]["content"] == "Own"
    row["system_prompt"] = None
    assert to_example(1, row, found.mapping, "All").messages[0]["content"] == "All"


MIXED = [{"messages": [USER, BOT]}] * 3 + [{"prompt": "a", "response": "b"}] * 2


@pytest.mark.parametrize(
    "rows",
    [
        MIXED,
        [{"messages": None, "prompt": None, "response": None} | row for row in MIXED],
        [{"question": "a", "answer": "b"}] * 3 + [{"prompt": "a", "response": "b"}] * 2,
        [{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}] * 3
        + [{"instruction": "a", "input": "", "output": "b"}] * 2,
    ],
)
def test_a_file_that_mixes_two_formats(rows):
    found = detect_format(rows)
    assert found.sure and len(found.mapping.also) == 1
    assert "Rows without" in found.sentence and "are read as:" in found.sentence
    assert len([to_example(1, row, found.mapping) for row in rows]) == 5
    check_mapping(found.mapping, found.columns, "x")
    stored = json.loads(json.dumps(asdict(found.mapping)))
    assert ColumnMapping(**stored) == found.mapping


def test_each_format_is_described_once():
    rows = [*MIXED, {"prompt": "a", "response": "b", "id": "1"}, {"prompt": "a", "response": "b"}]
    found = detect_format(rows)
    assert len(found.mapping.also) == 1 and found.sentence.count("are read as") == 1


def test_empty_cells_do_not_make_a_file_mixed():
    rows = [
        {"prompt": "a", "response": "b", "id": "1"},
        {"prompt": "a", "response": "", "id": None},
    ]
    found = detect_format(rows)
    assert found.sure and not found.mapping.also
    rows = [{"instruction": "a", "input": x, "output": "b"} for x in ("", "c", "")]
    assert not detect_format(rows).mapping.also
    with pytest.raises(UserError):
        check_mapping(
            ColumnMapping("text", {"text": "a"}, (ColumnMapping("text", {"text": "b"}),)),
            ["a"],
            "x",
        )


def test_rows_of_neither_format_are_refused():
    found = detect_format(MIXED)
    with pytest.raises(RowError, match="empty"):
        to_example(6, {"other": "x"}, found.mapping)


def test_images_in_messages_become_marks():
    parts = [
        {"type": "text", "text": "See "},
        {"type": "image_url", "image_url": {"url": DATA_URL}},
    ]
    found = chat({"role": "user", "content": parts}, BOT)
    assert found.messages[0]["content"] == "See <image>"
    assert found.images == [ImageBytes(PNG, ".png")]
    stored = found.images[0].stored_name
    source = {"type": "base64", "media_type": "image/png", "data": DATA_URL.split(",")[1]}
    for part in ({"image": DATA_URL}, {"image": {"image": stored}}, {"source": source}):
        images = chat({"role": "user", "content": [{"type": "image", **part}]}, BOT).images
        assert images in (found.images, [stored])


def test_images_of_a_column_fill_the_marks():
    mapping = ColumnMapping("messages", {"messages": "messages", "images": "images"})
    parts = [{"type": "image"}, {"type": "text", "text": "?"}, {"type": "image"}]
    row = {"messages": [{"role": "user", "content": parts}, BOT], "images": [DATA_URL, DATA_URL]}
    found = to_example(1, row, mapping)
    assert found.messages[0]["content"] == "<image>?<image>" and len(found.images) == 2
    row["messages"][0] = {"role": "user", "content": "no mark"}
    assert len(to_example(1, row, mapping).images) == 2
    assert to_example(1, {"messages": [USER, BOT]}, mapping).images is None
    assert json.loads(to_json({"a": found.images[0]}))["a"]["image"].startswith("images/")


@pytest.mark.parametrize(
    ("images", "content", "what"),
    [
        (["http://x/a.png"], "a", "web address"),
        (["/etc/passwd.png"], "a", "not in the upload"),
        ([{"path": "/etc/passwd"}], "a", "not in the upload"),
        ([5], "a", "not in the upload"),
        (["data:image/png;base64,%%%"], "a", "damaged"),
        (["data:image/svg+xml;base64,PHN2Zy8+"], "a", "damaged"),
        ([DATA_URL], "<image> and <image>", "differ"),
        ([], [{"type": "image"}], "not in the upload"),
        ([], [{"type": "image_url", "image_url": {"url": "file:///etc/a.png"}}], "not in the"),
        ([], [{"type": "input_audio", "input_audio": {}}], "audio or video"),
    ],
)
def test_missing_and_damaged_images_are_refused(images, content, what):
    mapping = ColumnMapping("messages", {"messages": "messages", "images": "images"})
    row = {"messages": [{"role": "user", "content": content}, BOT], "images": images}
    with pytest.raises(RowError, match=what) as caught:
        to_example(1, row, mapping)
    assert caught.value.fix


def test_the_image_column_is_found_and_described():
    row = {"image": DATA_URL, "question": "What?", "answer": "Red."}
    found = detect_format([row])
    assert found.mapping.roles["images"] == "image" and "Images from “image”." in found.sentence
    assert not detect_format([{"image": DATA_URL, "text": "a caption"}]).sure


CASE_57 = [
    ([{"role": "wizard", "content": "x"}, BOT], "Unknown role “wizard”."),
    ([{"role": "user"}, BOT], "A user message is empty."),
    ([USER, {"role": "assistant", "content": ""}], "The answer is empty."),
    ("not a list", "The conversation is text, not a list of messages."),
    ([USER, {"role": "system", "content": "s"}, BOT], "A system message stands in the middle."),
    ([USER, USER, BOT], "Two user messages in a row."),
    ([USER, BOT | {"extra": 1, "more": {"a": []}}], ""),
]


def test_case_57_faults_of_conversations_are_counted_by_kind():
    examples, dropped = [], {}
    for number, (value, _) in enumerate(CASE_57 * 6, start=1):
        try:
            examples.append(to_example(number, {"messages": value}, CHAT))
        except RowError as error:
            dropped.setdefault(error.what, []).append(number)
    assert {what: len(rows) for what, rows in dropped.items()} == {
        what: 6 for _, what in CASE_57[:4]
    }
    found = {problem.what: problem.count for problem in check_examples(examples, "x")}
    assert all(found[what] == 6 for _, what in CASE_57[4:6])
    assert examples[2].messages[1] == BOT | {"extra": 1, "more": {"a": []}}


HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))",
    "![](http://example.com/a.png)", "<svg onload=alert(1)>", "$$\\def\\x{\\x\\x}\\x$$",
    "\u202eabc",
]  # fmt: skip


def test_case_66_markup_is_text_like_any_other(tmp_path):
    lines = [{"prompt": text, "response": text} for text in HOSTILE]
    path = put(tmp_path, "a.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    mapping = detected(path).mapping
    for (_, row), text in zip(read_rows(path), HOSTILE, strict=True):
        said = [message["content"] for message in to_example(1, row, mapping).messages]
        assert said == [text, text]


NAMES = ["..x.jsonl", "CON.jsonl", "-rf.jsonl", "{0}.jsonl", "$(id).jsonl", "🎉.jsonl", "a b.jsonl",
         "%2e%2e.jsonl", "x" * 240 + ".jsonl", "a;b.jsonl"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_case_68_odd_file_names_are_only_labels(tmp_path, name):
    before = set(tmp_path.rglob("*"))
    path = put(tmp_path, name, '{"prompt":"a","response":"b"}\n')
    assert detected(path).sure
    assert set(tmp_path.rglob("*")) - before == {path}
    broken = put(tmp_path, name, "{")
    with pytest.raises(UserError) as caught:
        list(read_rows(broken))
    assert name in caught.value.where


def test_case_68_odd_column_names_are_shown_as_they_are():
    columns = ["{0}", "$(id)", "../x", "<b>", "a" * 10_000, "__class__"]
    found = detect_format([dict.fromkeys(columns, "x")])
    assert not found.sure and "“$(id)”" in found.sentence and len(found.sentence) < 400
    mapping = ColumnMapping("prompt_completion", {"prompt": "{0}", "completion": "__class__"})
    assert "“{0}”" in describe_mapping(mapping, columns)
    assert to_example(1, dict.fromkeys(columns, "x"), mapping).messages[1]["content"] == "x"
