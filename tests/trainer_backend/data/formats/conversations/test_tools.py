"""Tools of a row: every form, and nulls that are values or absent keys."""

import json

import pytest

from trainer_backend.data.formats.conversations.tools import holds_tools, read_tools, slim_tools
from trainer_backend.errors import RowError

SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}
FUNCTION = {"name": "f", "description": "d", "parameters": SCHEMA}
WANTED = {"type": "function", "function": FUNCTION}
BARE = {"name": "f", "description": "d"}
FORMS = {
    "OpenAI": [WANTED],
    "bare": [FUNCTION],
    "one": FUNCTION,
    "flat": [{"type": "function", **FUNCTION}],
    "texts": [json.dumps(FUNCTION)],
    "Anthropic": [{**BARE, "input_schema": SCHEMA, "cache_control": {"type": "ephemeral"}}],
    "Gemini": [{"functionDeclarations": [FUNCTION]}],
    "Gemini, snake case": {"function_declarations": [FUNCTION]},
    "Bedrock": {"tools": [{"toolSpec": {**BARE, "inputSchema": {"json": SCHEMA}}}]},
    "Cohere": [{**BARE, "parameter_definitions": {"x": {"type": "str", "required": True}}}],
    "filled by a table": [{**WANTED, "name": None, "function": {**FUNCTION, "strict": None}}],
}


@pytest.mark.parametrize("tools", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("write", [lambda x: x, json.dumps, repr], ids=["list", "json", "repr"])
def test_every_form_of_tools_comes_out_alike(tools, write):
    assert holds_tools(write(tools))
    assert read_tools(write(tools)) == [WANTED]


def test_a_tool_without_a_name_or_of_the_provider_stays_as_it_is():
    tools = [{"type": "web_search", "name": "s"}, {"googleSearch": {}}]
    assert read_tools(tools) == tools


@pytest.mark.parametrize("value", [None, "", [], {}, "[]"])
def test_no_tools(value):
    assert read_tools(value) is None


@pytest.mark.parametrize("value", ["hammer, saw", "5", [5], "[INST]"])
def test_other_cells_are_refused(value):
    with pytest.raises(RowError, match="The tools are not"):
        read_tools(value)
    assert not holds_tools("hammer, saw") and not holds_tools(5)


def test_a_null_that_json_schema_allows_stays_unless_a_table_filled_others():
    default = {"type": "object", "properties": {"x": {"type": "string", "default": None}}}
    assert (
        read_tools([{"name": "f", "parameters": default}])[0]["function"]["parameters"] == default
    )
    filled = {**default, "properties": {**default["properties"], "y": None}}
    (tool,) = read_tools([{"name": "f", "parameters": filled}])
    assert tool["function"]["parameters"]["properties"] == {"x": {"type": "string"}}
    assert slim_tools(None) is None and slim_tools([WANTED]) == [WANTED]
