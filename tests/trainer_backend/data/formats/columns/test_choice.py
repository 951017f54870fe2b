"""Columns as a person names them: on the command line, in a request, with the pickers."""

import pytest

from trainer_backend.data.formats.columns.choice import mapping_of, parse_columns, written_columns
from trainer_backend.data.formats.mapping import ColumnMapping
from trainer_backend.errors import UserError


@pytest.mark.parametrize(
    ("lines", "roles"),
    [
        (["prompt=q,completion=a"], {"prompt": "q", "completion": "a"}),
        ([" Prompt = q , completion=a"], {"prompt": "q", "completion": "a"}),
        (["prompt=q", "completion=a"], {"prompt": "q", "completion": "a"}),
        (["prompt=First, last,completion=x=y"], {"prompt": "First, last", "completion": "x=y"}),
        (['prompt="a,completion=b",completion=c'], {"prompt": "a,completion=b", "completion": "c"}),
        (['text="the ""text"""'], {"text": 'the "text"'}),
        (["messages=问题"], {"messages": "问题"}),
        ([], {}),
    ],
)
def test_lines_name_columns(lines, roles):
    assert parse_columns(lines) == roles


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["promt=q,completion=a"], "Unknown role “promt”"),
        (["prompt=q,prompt=a"], "given twice"),
        (["prompt=q", "prompt=a"], "given twice"),
        (["prompt"], "names no columns"),
        ([""], "No column is named"),
        (["=q"], "Unknown role “”"),
    ],
)
def test_lines_that_name_nothing(lines, what):
    with pytest.raises(UserError, match=what) as caught:
        parse_columns(lines)
    assert caught.value.where == "--columns" and caught.value.fix


@pytest.mark.parametrize("names", [("q", "a"), ("a,completion=b", 'say "x"'), (" q ", "a=b")])
def test_a_written_line_is_read_back(names):
    mapping = ColumnMapping("prompt_completion", {"prompt": names[0], "completion": names[1]})
    assert parse_columns([written_columns(mapping)]) == mapping.roles


@pytest.mark.parametrize(
    ("roles", "format"),
    [
        ({"prompt": "q", "completion": "a", "input": "c", "history": "h"}, "prompt_completion"),
        ({"messages": "m", "completion": "a", "reasoning": "r"}, "messages"),
        ({"text": "t"}, "text"),
    ],
)
def test_roles_make_a_mapping(roles, format):
    assert mapping_of(roles, "x") == ColumnMapping(format, roles)


@pytest.mark.parametrize(
    ("roles", "what"),
    [
        ({}, "No column has a role"),
        ({"prompt": "q"}, "No column is chosen for the completion"),
        ({"completion": "a"}, "No column is chosen for the prompt"),
        ({"prompt": "q", "completion": "a", "text": "t"}, "cannot be combined"),
        ({"text": "t", "system": "s"}, "does not go with text"),
        ({"prompt": "q", "completion": "q"}, "chosen twice"),
    ],
)
def test_roles_that_make_no_example(roles, what):
    with pytest.raises(UserError, match=what):
        mapping_of(roles, "x")


def test_what_was_found_keeps_its_name():
    found = ColumnMapping("sharegpt", {"messages": "c"})
    assert mapping_of({"messages": "c"}, "x", found) is found
    assert mapping_of({"messages": "d"}, "x", found).format == "sharegpt"
