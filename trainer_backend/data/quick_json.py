"""The JSON of values that hold only text, several times as fast and letter for letter the same.

Everything else goes to json_values.py, which knows numbers as they were written.
"""

from typing import Any

import orjson

from trainer_backend.data.json_values import to_json


def quick_json(value: dict | list) -> str:
    """What to_json() gives; quick for a row of texts and for a list of plain messages."""
    if all(map(_only_text, value if type(value) is list else value.values())):
        try:
            return orjson.dumps(value).decode()
        except TypeError:  # half a character, or a key that is no text
            return to_json(value)
    return to_json(value)


def _only_text(value: Any) -> bool:
    if type(value) is str:
        return True
    if type(value) is dict:
        return all(type(item) is str for item in value.values())
    if type(value) is list:
        return all(
            type(item) is dict and all(type(text) is str for text in item.values())
            for item in value
        )
    return False
