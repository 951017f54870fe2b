"""The tools (functions) a row offers the model, in every form people write them.

[{"type": "function", "function": {"name", "description", "parameters"}}] comes out, as chat
templates expect it. Calls of these tools are not known here.
"""

from collections.abc import Mapping
from typing import Any

from trainer_backend.data.formats.conversations.literals import value_of
from trainer_backend.data.json_values import BadJSON, drop_nones
from trainer_backend.errors import RowError

_FIX = "Write them as a list of objects."
_LISTS = ("tools", "functions", "functionDeclarations", "function_declarations")
_PARAMETERS = ("parameters", "input_schema", "inputSchema", "parametersJsonSchema")
_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean",
          "list": "array", "List": "array", "dict": "object", "Dict": "object"}  # fmt: skip
_MAY_BE_NULL = ("default", "const", "example")  # keys of JSON Schema that may hold null


def read_tools(value: Any) -> list[dict] | None:
    """The tools of a cell: a list, an object that holds one, or the text of either; None for none.

    Raises RowError.
    """
    if isinstance(value, str) and value.strip():
        try:
            value = value_of(value)
        except BadJSON:
            raise RowError("The tools are not JSON.", _FIX) from None
    if not value:
        return None
    tools = [_tool(tool) for tool in _listed(value)]
    return slim_tools(tools) or None


def holds_tools(value: Any) -> bool:
    """Whether a cell looks like tools: a list, an object with a list of them, or its text."""
    if isinstance(value, Mapping):
        return any(isinstance(value.get(key), list | tuple) for key in _LISTS) or "name" in value
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip()[:1] in ("[", "{"))


def slim_tools(tools: Any) -> Any:
    """Tools without the nulls that a table has for absent keys.

    A null that a person wrote (“default”: null) stays: no other null is allowed in JSON Schema, so
    any other shows that a table filled them in.
    """
    if not isinstance(tools, list | tuple):
        return tools
    return drop_nones(tools) if _filled(tools) else list(tools)


def _listed(value: Any) -> list[Mapping]:
    """The tools one by one; those of Gemini and Bedrock stand in lists within lists."""
    if isinstance(value, str):
        try:
            value = value_of(value)
        except BadJSON:
            value = None
    if isinstance(value, Mapping):
        inner = [key for key in _LISTS if isinstance(value.get(key), list | tuple)]
        return _listed(value[inner[0]]) if inner else [value]
    if not isinstance(value, list | tuple):
        raise RowError("The tools are not a list of objects.", _FIX)
    return [tool for item in value for tool in (_listed(item) if item is not None else ())]


def _tool(tool: Mapping) -> dict:
    """One tool as chat templates expect it; without a name it stays as it is."""
    inner = tool.get("toolSpec") or tool.get("function") or tool
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        return dict(tool)
    schema = next((inner[key] for key in _PARAMETERS if inner.get(key) is not None), None)
    if isinstance(schema, Mapping) and isinstance(schema.get("json"), Mapping):
        schema = schema["json"]
    if schema is None and isinstance(inner.get("parameter_definitions"), Mapping):
        schema = _from_definitions(inner["parameter_definitions"])
    if inner is tool and "type" in tool and tool["type"] not in ("function", "custom", None):
        return dict(tool)  # a tool of the provider's own, such as a web search
    known = {"type", "cache_control", "toolSpec", "parameter_definitions", *_PARAMETERS}
    function = {key: item for key, item in inner.items() if key not in known and item is not None}
    if schema is not None:
        function["parameters"] = schema
    if inner is tool.get("function"):
        rest = {key: item for key, item in tool.items() if item is not None}
        return {**rest, "type": tool.get("type") or "function", "function": function}
    return {"type": "function", "function": function}


def _from_definitions(definitions: Mapping) -> dict:
    """Cohere's definitions of parameters as a JSON Schema."""
    properties, required = {}, []
    for name, one in definitions.items():
        if not isinstance(one, Mapping):
            continue
        kind = str(one.get("type", "string"))
        rest = {key: item for key, item in one.items() if key not in ("type", "required")}
        properties[name] = {"type": _TYPES.get(kind, kind), **rest}
        required += [name] if one.get("required") else []
    return {"type": "object", "properties": properties, "required": required}


def _filled(value: Any) -> bool:
    """Whether schemas have nulls where JSON Schema allows none: a table filled absent keys."""
    if isinstance(value, Mapping):
        return any(
            key not in _MAY_BE_NULL if item is None else _filled(item)
            for key, item in value.items()
        )
    return isinstance(value, list | tuple) and any(map(_filled, value))
