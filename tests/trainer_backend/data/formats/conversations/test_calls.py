"""Calls of functions: every form, ids, arguments, and nulls that are values or absent keys."""

import json

import pytest

from trainer_backend.data.formats.conversations.calls import (
    calls_in,
    calls_of,
    is_filled,
    without_nulls,
)
from trainer_backend.errors import RowError

FUNCTION = {"name": "f", "arguments": {"x": 1}}
WANTED = {"type": "function", "function": FUNCTION}
PLAIN = [
    WANTED,
    FUNCTION,
    {"function": FUNCTION},
    {"name": "f", "parameters": {"x": 1}},
    {"name": "f", "input": {"x": 1}},
    {"name": "f", "args": {"x": 1}, "type": "tool_call"},
    {"name": "f", "arguments": '{"x": 1}'},
    {"name": "f", "arguments": json.dumps('{"x": 1}')},
    {"name": "f", "arguments": "{'x': 1}"},
    {"function": "f", "arguments": {"x": 1}},
    {"functionCall": {"name": "f", "args": {"x": 1}}},
    {"toolName": "f", "args": {"x": 1}},
    {"name": "f", "arguments": {"x": 1}, "parameters": {"x": 1}, "index": 0},
]


@pytest.mark.parametrize("call", PLAIN)
@pytest.mark.parametrize("write", [list, json.dumps, repr])
def test_every_form_of_a_call_comes_out_alike(call, write):
    assert calls_of(write([call])) == [WANTED]
    assert calls_of(call) == calls_of(json.dumps(call)) == [WANTED]


@pytest.mark.parametrize("key", ["id", "call_id", "tool_use_id", "toolUseId", "toolCallId"])
def test_the_id_of_a_call_is_kept(key):
    assert calls_of([{**FUNCTION, key: "c1"}]) == [{"id": "c1", **WANTED}]


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (5, "not a list"),
        ([5], "not JSON with a name"),
        ("no json", "not JSON with a name"),
        ([{"action": "f"}], "it has “action”"),
        ([{"type": "custom", "custom": {"name": "f", "input": "x"}}], "it has “type”, “custom”"),
        ([{"name": "f", "arguments": "{x"}], "arguments of a function call are not JSON"),
        ([{"name": "f", "arguments": "[1]"}], "not an object"),
        ([{"name": "f", "arguments": {"x": 1}, "input": {"x": 2}}], "“arguments” and “input”"),
        ([{"name": ""}], "not JSON with a name"),
        ("[{'name': 'f', 'arguments': {'x': {1}}}]", "written by Python and holds “{1}”"),
    ],
)
def test_a_call_that_is_not_certain_is_refused(value, what):
    with pytest.raises(RowError) as caught:
        calls_of(value)
    assert what in caught.value.what and caught.value.fix


def test_two_keys_with_calls_agree_or_are_refused():
    turn = {"function_call": FUNCTION, "tool_calls": [WANTED]}
    assert calls_in(turn) == [WANTED] and calls_in({"tool_calls": None}) == []
    with pytest.raises(RowError, match="“tool_calls” and “function_call”, and they differ"):
        calls_in({**turn, "function_call": {"name": "g"}})


def test_what_is_not_read_of_a_call_is_said():
    said = []
    assert calls_of([{**FUNCTION, "index": 0, "why": "x"}], said.append) == [WANTED]
    assert [note.what for note in said] == ["Not read in tool calls: “why”."]


NULLS = {"name": "f", "arguments": {"x": 1, "y": None}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [{"function": NULLS}]}


def test_a_null_in_arguments_is_a_value_unless_a_table_filled_it():
    written = [{"role": "user", "content": "q"}, CALLING]
    filled = [{"role": "user", "content": "q", "tool_calls": None}, CALLING]
    empty = [{"role": "user", "content": "q", "tool_calls": []}, CALLING]
    assert not is_filled(written) and is_filled(filled) and is_filled(empty)
    assert without_nulls(written)[1]["tool_calls"] == [{"function": NULLS}]
    assert without_nulls(filled)[1]["tool_calls"][0]["function"]["arguments"] == {"x": 1}
    assert without_nulls(written)[1].keys() == {"role", "tool_calls"}
    said = []
    assert calls_of([NULLS], said.append, filled=True) == [WANTED]
    assert [note.code for note in said] == ["null_arguments"]
    text = {"name": "f", "arguments": '{"y": null}'}
    assert calls_of([text], said.append, filled=True)[0]["function"]["arguments"] == {"y": None}
    assert len(said) == 1
