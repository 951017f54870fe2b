"""Text that holds a list or an object: JSON, JSON encoded twice, or what Python prints.

Tables written by pandas hold the latter. Only plain values come out; what they mean is not known.
"""

import ast
import math
import re
from typing import Any

from trainer_backend.data.json_values import MAX_DEPTH, BadJSON, check_strings, parse

_STRING = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_UNPARTED = re.compile(rf"({_STRING})|([}}\])])\s+(?=[{{\[(]|array\()", re.DOTALL)
_PYTHON = re.compile(r"""\s*(?:array\(\s*)?[\[{(]\s*(?:array\(|[\[{('"])""")
_MISSING = ("nan", "NaN", "NaT", "NA")  # how pandas prints a value that is not there
LEFTOVER = "The text was written by Python and holds"  # begins the error about what is not plain
_NUMBERS = ("int", "float", "str_", "bool")  # how the scalars of numpy are printed: np.int64(7)
_FIX = "Write it as JSON: in Python with json.dumps(…), or save the table as JSON Lines."


def value_of(text: str) -> Any:
    """The list, object or other value that a text holds. Raises BadJSON if it holds none."""
    try:
        value = parse(text)
    except BadJSON as error:
        if error.too_deep or not _PYTHON.match(text):
            raise
        return _printed(text, error)
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        return parse(value)
    return value


def _printed(text: str, otherwise: BadJSON) -> Any:
    """The value of a text that Python printed; raises `otherwise` for one it did not."""
    # numpy writes no commas between the items of an array
    parted = _UNPARTED.sub(lambda found: found[1] or found[2] + ", ", text.strip())
    try:
        tree = ast.parse(parted, mode="eval")
        value = _plain(tree.body, parted)
    except BadJSON:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # ValueError: a NUL character
        raise otherwise from None
    check_strings(value)
    return value


def _plain(node: ast.AST, text: str, depth: int = 0) -> Any:
    """The value of an expression. Raises BadJSON for one that is no plain value."""
    if depth > MAX_DEPTH:
        raise BadJSON(f"The text is nested deeper than {MAX_DEPTH} levels.", "Flatten the data.")
    match node:
        case ast.Constant(value=str() | bool() | int() | None):
            return node.value
        case ast.Constant(value=float() as number) if math.isfinite(number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)) if (
            number != math.inf
        ):
            return -number
        case ast.List() | ast.Tuple():
            return [_plain(item, text, depth + 1) for item in node.elts]
        case ast.Dict():
            return _object(node, text, depth)
        case ast.Name() if node.id in _MISSING:
            return None
        case ast.Call(args=[inner, *_]) if _is_array(node):
            return _plain(inner, text, depth + 1)
    shown = (ast.get_source_segment(text, node) or type(node).__name__)[:40]
    raise BadJSON(f"{LEFTOVER} “{shown}”, which is no plain value.", _FIX)


def _object(node: ast.Dict, text: str, depth: int) -> dict[str, Any]:
    value = {}
    for key, item in zip(node.keys, node.values, strict=True):
        if not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
            raise BadJSON("The text was written by Python, and a key is not text.", _FIX)
        value[key.value] = _plain(item, text, depth + 1)
    return value


def _is_array(call: ast.Call) -> bool:
    """Whether a call is numpy's way to print a list or a number."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name == "array" or (isinstance(function, ast.Attribute) and name.startswith(_NUMBERS))
