"""Neighbouring messages of one role joined, and all others as they are."""

import json

import pytest

from trainer_backend.data.store.joining import joined_row

ROLES = {"messages": "chat"}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]}


def chat(*turns: tuple[str, str]) -> list[dict]:
    return [{"role": role, "content": text} for role, text in turns]


def test_texts_of_one_role_are_joined():
    turns = chat(("user", "a"), ("user", "b"), ("assistant", "c"), ("assistant", "d"))
    joined = joined_row({"chat": turns, "id": 1}, ROLES)
    assert joined == {"chat": chat(("user", "a\n\nb"), ("assistant", "c\n\nd")), "id": 1}
    assert json.loads(joined_row({"chat": json.dumps(turns)}, ROLES)["chat"]) == joined["chat"]


def test_two_names_of_one_role_are_joined():
    turns = [{"from": "human", "value": "a"}, {"from": "user", "value": "b"}]
    assert joined_row({"chat": turns}, ROLES) == {"chat": [{"from": "human", "value": "a\n\nb"}]}


@pytest.mark.parametrize(
    "turns",
    [
        chat(("user", "a"), ("assistant", "b")),
        chat(("tool", "1"), ("tool", "2")),
        [*chat(("assistant", "a")), CALL],
        [{"role": "user", "content": "a"}, {"from": "human", "value": "b"}],
        ["a", "b"],
    ],
)
def test_what_is_more_than_text_stays(turns):
    assert joined_row({"chat": turns}, ROLES) == {"chat": turns}
    text = json.dumps(turns, indent=1)
    assert joined_row({"chat": text}, ROLES) == {"chat": text}


def test_other_columns_stay():
    row = {"chat": "no list", "notes": chat(("user", "a"), ("user", "b"))}
    assert joined_row(row, ROLES) == row
