"""Cells that hold a conversation, and cells that only look like one."""

import json

import pytest

from trainer_backend.data.formats.conversations import to_messages, turns_of
from trainer_backend.errors import RowError

USER, BOT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
CHATS = {
    "list": [USER, BOT],
    "tuple": (USER, BOT),
    "JSON": json.dumps([USER, BOT]),
    "JSON in JSON": json.dumps(json.dumps([USER, BOT])),
    "texts of objects": [json.dumps(USER), json.dumps(BOT)],
    "within a list": [[USER, BOT]],
    "within an object": {"messages": [USER, BOT]},
    "numbered": {"10": BOT, "9": USER},
    "table": {"from": ["human", "gpt"], "value": ["q", "a"]},
    "table as text": json.dumps({"role": ["user", "assistant"], "content": ["q", "a"]}),
    "pairs": [["user", "q"], ("bot", "a")],
    "questions and answers": [{"human": "q", "assistant": "a"}],
    "roles as keys": [{"user": "q"}, {"assistant": "a"}],
    "wrapped": [{"type": "user", "message": USER}, {"type": "assistant", "message": BOT}],
    "speakers": [{"speaker": "USER:", "text": "q"}, {"speaker": "Chatbot", "text": "a"}],
    "senders": [{"sender": "human", "text": "q"}, {"sender": "assistant", "text": "a"}],
    "authors": [
        {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["q"]}},
        {"author": {"role": "assistant"}, "content": {"content_type": "text", "parts": ["a"]}},
    ],
}


@pytest.mark.parametrize("cell", CHATS.values(), ids=CHATS)
def test_a_conversation_is_found_and_read(cell):
    assert turns_of(cell)
    assert to_messages(cell) == [USER, BOT]


def test_one_message_is_a_conversation_of_one():
    assert turns_of(BOT) == [BOT]


OTHERS = [
    None, 5, "", "Hello", "[INST] Hi [/INST]", "[1, 2]", "{}", [], {}, ["q", "a"], [["q", "a"]],
    [{"input": "1 2", "output": "3"}],  # a test case
    [{"question": "q", "answer": "a"}],
    [{"speaker": "Alice", "text": "q"}, {"speaker": "Bob", "text": "a"}],
    [{"name": "f", "arguments": {}}],
    [{"type": "function", "function": {"name": "f"}}],
    {"role": "admin", "content": "x"},
    {"role": "system", "parts": [{"text": "x"}]},  # of a column of its own
    {"role": "user"},
]  # fmt: skip


@pytest.mark.parametrize("cell", OTHERS, ids=map(str, OTHERS))
def test_another_cell_is_no_conversation(cell):
    assert not turns_of(cell)


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ([[USER, BOT], [USER, BOT]], "several conversations"),
        ([["q", "a"], ["q", "a"]], "a list of texts without a role"),
        (["q", "a"], "a text without a role"),
        ([{"user": "human", "text": "q"}], "no role; it has “user”, “text”"),
        ({"a": [USER], "b": [BOT]}, "not a list of messages"),
        ("[{'role': 'user', 'content': 'q', 'at': datetime.date(2024, 1, 2)}]", "holds “datetime."),
    ],
)
def test_what_is_not_certain_is_refused_when_it_was_chosen(cell, what):
    with pytest.raises(RowError) as caught:
        to_messages(cell)
    assert what in caught.value.what and caught.value.fix


def test_a_chosen_cell_may_be_inputs_and_outputs():
    assert to_messages([{"system": "s", "input": "q", "output": "a", "id": 1}]) == [
        {"role": "system", "content": "s"},
        USER,
        BOT | {"id": 1},
    ]
