"""Turns become messages: roles, keys, reasoning, images, calls across turns, notes."""

import pytest

from trainer_backend.data.formats.conversations import order_problem, to_messages
from trainer_backend.data.formats.conversations.roles import ROLES, role_named
from trainer_backend.errors import RowError

USER, BOT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
CALL = '{"name": "f", "arguments": {"x": 1}}'
CALLED = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALLED]}
RESULT = {"role": "tool", "content": "1"}


def read(*turns: object) -> tuple[list[dict], list[str]]:
    said: list = []
    return to_messages(list(turns), say=said.append), [note.what for note in said]


def test_roles_are_known_in_any_spelling():
    for name, role in ROLES.items():
        for spelled in (name, name.upper(), f" {name.title()}: ", name.replace("_", "-")):
            assert role_named(spelled) == role
    assert role_named("wizard") is role_named(None) is role_named(3) is None


@pytest.mark.parametrize("name", ["function_call", "tool_call", "Tool Call", "functioncall"])
@pytest.mark.parametrize("content", [CALL, f"[{CALL}]", {"name": "f", "arguments": {"x": 1}}])
def test_a_role_that_says_calls_holds_calls(name, content):
    assert read(USER, {"role": name, "content": content}, RESULT, BOT) == (
        [USER, CALLING, RESULT, BOT],
        [],
    )


def test_calls_join_the_answer_before_them_and_each_other():
    said = {"role": "assistant", "content": "One moment."}
    turns = [{"role": "tool_call", "content": CALL}] * 2
    both = {**said, "tool_calls": [CALLED, CALLED]}
    assert read(USER, said, *turns, RESULT, BOT)[0] == [USER, both, RESULT, BOT]
    unlearned = [turn | {"loss": False} for turn in turns]
    calls = {**CALLING, "tool_calls": [CALLED, CALLED], "train": False}
    assert read(USER, said, *unlearned, BOT)[0] == [USER, said, calls, BOT]


def test_results_carry_the_id_and_name_of_their_call():
    call = {"id": "c1", "function": {"name": "f", "arguments": "{}"}}
    calling = {"role": "assistant", "content": None, "tool_calls": [call]}
    for key in ("tool_call_id", "tool_use_id", "toolCallId", "call_id", "id"):
        messages, said = read(USER, calling, RESULT | {key: "c1"}, BOT)
        assert messages[2] == RESULT | {"tool_call_id": "c1", "name": "f"} and said == []
    messages, said = read(USER, calling, RESULT | {"id": "m7"}, BOT)
    assert messages[2] == RESULT | {"id": "m7"} and said == ["Not read in messages: “id”."]


def test_keys_that_nothing_reads_are_kept_and_said_once():
    messages, said = read(USER | {"id": 1, "at": 2}, BOT | {"id": 3, "empty": {}, "none": None})
    assert messages == [USER | {"id": 1, "at": 2}, BOT | {"id": 3}]
    assert said == ["Not read in messages: “id”, “at”."]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking", "thought",
                                 "thoughts", "tool_plan"])  # fmt: skip
def test_reasoning_beside_an_answer(key):
    assert read(USER, BOT | {key: "hm"})[0][1] == BOT | {"reasoning_content": "hm"}
    again = read(USER, BOT | {key: "hm ", "reasoning_content": "hm"})[0][1]
    assert again["reasoning_content"].strip() == "hm"
    if key != "reasoning_content":
        with pytest.raises(RowError, match="and they differ"):
            read(USER, BOT | {key: "hm", "reasoning_content": "so"})


def test_images_in_a_key_of_their_own_become_marks():
    seen: list = []
    png = "iVBORw0KGgoAAA"
    (message, _) = to_messages([USER | {"images": [png, "x.png"]}, BOT], seen.append)
    assert message["content"] == "<image><image>q"
    assert seen == [{"image": f"data:image/png;base64,{png}"}, {"image": "x.png"}]
    marked = USER | {"content": "<image> and q", "images": [png]}
    assert to_messages([marked, BOT])[0]["content"] == "<image> and q"
    with pytest.raises(RowError, match="number of images"):
        to_messages([marked | {"images": [png, png]}, BOT])


@pytest.mark.parametrize(
    ("turn", "what"),
    [
        ({"role": "expert", "content": "x"}, "Unknown role “expert”."),
        ({"role": "thought", "content": "x"}, "Unknown role “thought”."),
        ({"role": "user", "from": "gpt", "content": "x"}, "“role” and “from”, and they name diff"),
        ({"name": "user", "content": "x"}, "no role; it has “name”, “content”"),
        ({"role": "user", "body": "x"}, "it has “body”"),
        ({"role": "user", "content": "x", "value": "y"}, "“content” and “value”, and they differ"),
        ({"role": "assistant", "content": "x", "refusal": "y"}, "“content” and “refusal”"),
        ({"role": "assistant", "content": None, "audio": {"id": "x"}}, "“audio”; only text and"),
        ({"role": "tools", "content": '[{"name": "f", "parameters": {}}]'}, "lists the tools"),
        ({"role": "tool_call", "content": "f(1)"}, "A function call is not JSON"),
    ],
)
def test_a_turn_that_is_not_certain_is_refused_by_the_name_of_its_key(turn, what):
    with pytest.raises(RowError) as caught:
        read(USER, turn, BOT)
    assert what in caught.value.what and caught.value.fix


def test_the_same_text_under_two_keys_is_one_text():
    turn = {"sender": "human", "text": "q", "content": [{"type": "text", "text": "q"}]}
    assert read(turn, BOT)[0] == [USER, BOT]
    assert read({"role": "user", "from": "human", "content": "q", "text": ""}, BOT)[0][0] == USER


def test_reasoning_that_stands_alone_joins_the_answer_that_follows():
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"x": 1}'}
    wanted = {**CALLING, "tool_calls": [{"id": "c", **CALLED}], "reasoning_content": "hm"}
    assert read(USER, thought, call)[0] == [USER, wanted]
    assert read(USER, thought, BOT)[0] == [USER, BOT | {"reasoning_content": "hm"}]
    hidden = {"type": "reasoning", "summary": [], "encrypted_content": "x"}
    messages, said = read(USER, hidden, BOT)
    assert messages == [USER, BOT] and said == ["Reasoning that is encrypted is left out."]


def test_order_of_a_conversation_with_calls_is_as_usual():
    assert order_problem(read(USER, CALLING, RESULT, BOT)[0]) is None
