"""Parts of messages: what is read, said and refused."""

import json

import pytest

from trainer_backend.data.formats.conversations import to_messages
from trainer_backend.data.formats.conversations.parts import Ways, system_text
from trainer_backend.errors import RowError

TEXT = {"type": "text", "text": "a"}
CALL = {"type": "tool_use", "id": "c", "name": "f", "input": {"x": 1, "y": None}}
CALLED = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": CALL["input"]}}]


def read(role: str, content: object, **more) -> tuple[list[dict], list[str]]:
    said: list = []
    messages = to_messages([{"role": role, "content": content, **more}], say=said.append)
    return messages, [note.code for note in said]


@pytest.mark.parametrize(
    ("content", "text", "codes"),
    [
        ([{"type": "text", "text": "one "}, {"type": "text", "text": "two"}], "one two", []),
        ([{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}], "One.Two.",
         ["joined_parts"]),
        (["one", "\ntwo"], "one\ntwo", []),
        ({"type": "text", "text": "a"}, "a", []),
        ([{"type": "text", "content": "a"}], "a", []),
        ([{"type": "text", "text": "a", "lang": "en"}], "a", ["unread_keys"]),
        ([{"type": "text", "text": "a", "cache_control": {}, "annotations": []}], "a", []),
        ([{"text": "a"}, {"cachePoint": {"type": "default"}}], "a", []),
        ([{"type": "step-start"}, TEXT], "a", []),
        ([{"type": "refusal", "refusal": "a"}], "a", []),
        ([TEXT | {"image_url": None}], "a", []),
        (json.dumps([TEXT]), "a", ["parts_text"]),
        ('[{"name": "f"}]', '[{"name": "f"}]', []),
        ('[{"text": "a", "id": 7}]', '[{"text": "a", "id": 7}]', []),
        ({"answer": 5}, '{"answer":5}', ["object_text"]),
    ],
)  # fmt: skip
def test_parts_of_text(content, text, codes):
    assert read("assistant", content) == ([{"role": "assistant", "content": text}], codes)


def test_reasoning_text_and_calls_come_in_the_order_of_templates():
    thought = {"type": "thinking", "thinking": "hm", "signature": "x"}
    wanted = {
        "role": "assistant", "content": "a", "reasoning_content": "hm", "tool_calls": CALLED,
    }  # fmt: skip
    assert read("assistant", [thought, TEXT, CALL]) == ([wanted], [])
    for content in ([TEXT, thought, CALL], [thought, CALL, TEXT], [CALL, thought, TEXT]):
        messages, codes = read("assistant", content)
        assert messages == [wanted] and set(codes) == {"moved_part"}


def test_calls_of_parts_and_of_the_message_are_both_kept():
    messages, codes = read("assistant", [TEXT], function_call={"name": "g", "arguments": "{}"})
    assert messages[0]["content"] == "a" and codes == []
    assert messages[0]["tool_calls"][0]["function"] == {"name": "g", "arguments": {}}


def test_a_table_fills_the_parts_it_does_not_use():
    filled = {"text": None, **CALL}
    messages, codes = read("assistant", [TEXT | {"id": None, "name": None, "input": None}, filled])
    assert messages[0]["tool_calls"][0]["function"]["arguments"] == {"x": 1}
    assert codes == ["null_arguments"]


@pytest.mark.parametrize("role", ["user", "tool"])
def test_several_results_become_several_messages_where_they_stand(role):
    results = [
        {"type": "tool_result", "tool_use_id": "c", "content": "1"},
        {"type": "tool_result", "tool_use_id": "d", "content": [TEXT], "is_error": True},
    ]
    messages, _ = read(role, [*results, TEXT] if role == "user" else results)
    assert messages[:2] == [
        {"role": "tool", "content": "1", "tool_call_id": "c"},
        {"role": "tool", "content": "a", "tool_call_id": "d", "is_error": True},
    ]
    assert messages[2:] == ([{"role": "user", "content": "a"}] if role == "user" else [])


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ([{"type": "strange"}], "(“strange”)"),
        ([{"strange": 1}], "(“strange”)"),
        ([{"type": "document", "source": {"data": "x"}}], "(“document”)"),
        ([{"fileData": {"fileUri": "gs://x"}}], "(“fileData”)"),
        ([{"inlineData": {"mimeType": "audio/wav", "data": ""}}], "“audio/wav”; only images"),
        ([{"type": "video_url", "video_url": "x"}], "audio or video"),
        ([{"text": "a", "functionCall": {"name": "f"}}], "“text” and “functionCall”"),
        ([5], "other than text"),
        ([CALL, {"type": "tool_result", "tool_use_id": "c", "content": "1"}], "results of tools"),
        ([TEXT | {"train": False}, TEXT | {"train": True}], "Some parts of an answer are marked"),
        ([TEXT | {"weight": 0}, TEXT], "Some parts of an answer are marked"),
    ],
)
def test_what_is_not_read_is_refused_by_its_name(content, what):
    with pytest.raises(RowError) as caught:
        read("assistant", content)
    assert what in caught.value.what and caught.value.fix


def test_parts_that_are_all_marked_mark_the_message():
    assert read("assistant", [TEXT | {"train": False}])[0][0]["train"] is False


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Be brief.", "Be brief."),
        (None, ""),
        ([{"text": "Be brief."}], "Be brief."),
        ([{"type": "text", "text": "Be ", "cache_control": {}}, {"text": "brief."}], "Be brief."),
        ({"parts": [{"text": "Be brief."}], "role": "system"}, "Be brief."),
        ({"parts": {"text": "Be brief."}}, "Be brief."),
        ({"role": "system", "content": "Be brief."}, "Be brief."),
        ('[{"text": "Be brief."}]', "Be brief."),
        ("[{'type': 'text', 'text': 'Be brief.'}]", "Be brief."),
        ('{"parts": [{"text": "Be brief."}]}', "Be brief."),
        ('[{"name": "f"}]', '[{"name": "f"}]'),  # a list of tools in the text
        ("[{broken", "[{broken"),
    ],
)
def test_a_system_cell_is_text_or_parts_of_it(value, text):
    assert system_text(value, Ways()) == text


@pytest.mark.parametrize("value", [{"foo": "x"}, [CALL], [{"type": "document"}]])
def test_another_system_cell_is_refused(value):
    with pytest.raises(RowError):
        system_text(value, Ways())
