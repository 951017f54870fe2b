"""Text that holds a list or an object, as JSON or as Python prints it."""

import datetime
import json

import numpy as np
import pandas as pd
import pytest

from trainer_backend.data.formats.conversations.literals import value_of
from trainer_backend.data.json_values import BadJSON

TURNS = [{"role": "user", "content": 'It\'s "so":\n} {'}, {"role": "assistant", "content": "ok"}]
ARRAY = np.array(TURNS, dtype=object)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(TURNS),
        json.dumps(json.dumps(TURNS)),
        repr(TURNS),
        repr(tuple(TURNS)),
        str(ARRAY),
        repr(ARRAY),
        pd.DataFrame({"a": [ARRAY]}).to_csv(index=False)[3:-2].replace('""', '"'),
    ],
)
def test_a_list_is_read_however_it_was_written(text):
    assert value_of(text) == TURNS


def test_plain_values_of_python_and_of_its_tables():
    text = repr({"a": [None, True, 1.5, -2, np.int64(7)], "b": np.array([1, 2]), "c": np.nan})
    assert value_of(text) == {"a": [None, True, 1.5, -2, 7], "b": [1, 2], "c": None}


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (datetime.datetime(2024, 1, 2), "datetime.datetime(2024, 1, 2"),
        (pd.Timestamp("2024-01-02"), "Timestamp('2024-01-02"),
        ({1, 2}, "{1, 2}"),
        (b"x", "b'x'"),
    ],
)
def test_what_is_no_plain_value_is_named(value, named):
    with pytest.raises(BadJSON, match="written by Python and holds") as caught:
        value_of(repr([{"role": "user", "when": value}]))
    assert named in caught.value.what and "json.dumps" in caught.value.fix


@pytest.mark.parametrize(
    "text",
    ['[{"role": "user", "ok": true,}]', '[{"role": "user", "role": "assistant"}]',
     "", "[INST] Hi [/INST]", "[{'role': 'user'", "{'a': open('x')}", "[" * 300, "[{'a': 1e999}]",
     "[('a' " + "'b' " * 5],
)  # fmt: skip
def test_other_text_is_refused_and_nothing_is_run(text):
    with pytest.raises(BadJSON) as caught:
        value_of(text)
    assert ("Python" in caught.value.what) == ("open" in text or "1e999" in text)
