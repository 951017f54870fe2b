"""JSON as people write it: pretty-printed, joined, without brackets, by columns, cut off."""

import json

import pytest
from reading_cases import put, refusal, rows, skipped

from trainer_backend.data.readers.files import open_rows
from trainer_backend.data.readers.options import ReadOptions

ROWS = [{"prompt": f"Q{at} {{}} [1]", "response": f'A{at}\n"}}"'} for at in range(1, 5)]
CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
ONE = json.dumps(ROWS[0])


def pretty(value):
    return json.dumps(value, indent=2, ensure_ascii=False)


SHAPES = {
    "pretty-printed objects": "\n".join(map(pretty, ROWS)),
    "with commas": ",\n".join(map(pretty, ROWS)),
    "with commas and one at the end": ",\n".join(map(json.dumps, ROWS)) + ",\n",
    "on one line": "".join(map(json.dumps, ROWS)),
    "on one line with spaces": " ".join(map(json.dumps, ROWS)),
    "blank lines between": "\n\n\n".join(map(pretty, ROWS)),
    "a mark before each": "\ufeff" + "\ufeff".join(map(pretty, ROWS)),
    "a list over several lines": pretty(ROWS),
    "a list on one line": json.dumps(ROWS),
    "lists one after another": json.dumps(ROWS[:2]) + json.dumps(ROWS[2:]),
    "lists with a comma": pretty(ROWS[:1]) + ",\n" + pretty(ROWS[1:]),
    "the first on one line": ONE + "\n" + "\n".join(map(pretty, ROWS[1:])),
    "tabs and returns": "\r\n".join(pretty(row).replace("  ", "\t") for row in ROWS),
    "lists of cells": json.dumps([["prompt", "response"], *(list(row.values()) for row in ROWS)]),
    "a list of cells a line": "\n".join(
        json.dumps(one) for one in [["prompt", "response"], *(list(row.values()) for row in ROWS)]
    ),
}


@pytest.mark.parametrize("ending", ["json", "jsonl"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_rows(tmp_path, shape, ending):
    assert rows(put(tmp_path, f"a.{ending}", SHAPES[shape])) == ROWS
    assert rows(put(tmp_path, f"b.{ending}", SHAPES[shape], encoding="utf-16")) == ROWS


def test_what_is_no_json_lines_file_is_said(tmp_path):
    notes = open_rows(put(tmp_path, "a.jsonl", SHAPES["pretty-printed objects"])).notes
    assert notes == ["The file holds objects or lists of rows one after another, "
                     "and was read as such."]  # fmt: skip


def test_chats_as_bare_lists_are_rows(tmp_path):
    talks = "\n".join([json.dumps(CHAT)] * 3)
    assert rows(put(tmp_path, "a.jsonl", talks)) == [{"messages": CHAT}] * 3
    assert rows(put(tmp_path, "a.json", json.dumps([CHAT] * 2))) == [{"messages": CHAT}] * 2
    old = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    assert rows(put(tmp_path, "b.json", json.dumps([old]))) == [{"messages": old}]
    assert rows(put(tmp_path, "c.json", json.dumps(CHAT))) == CHAT, "turns as rows"


def table(orient):
    """What pandas' DataFrame.to_json writes for the rows."""
    import pandas as pd

    return pd.DataFrame(ROWS).to_json(orient=orient)


@pytest.mark.parametrize("orient", ["records", "columns", "index", "split", "table", "values"])
def test_tables_of_pandas_in_every_orientation(tmp_path, orient):
    path = put(tmp_path, "a.json", table(orient))
    found = [list(row.values())[-2:] for row in rows(path)]
    assert found == [list(row.values()) for row in ROWS]
    reader = open_rows(path)
    list(reader)
    if orient not in ("records", "values"):
        assert reader.notes, "how the table lies in the file is said"


def test_rows_by_name(tmp_path):
    named = {"q-1": ROWS[0], "q-2": ROWS[1] | {"note": "x"}}
    path = put(tmp_path, "a.json", json.dumps(named))
    assert rows(path) == list(named.values())
    reader = open_rows(path)
    list(reader)
    assert "“q-1”" in reader.notes[-1] and "not used" in reader.notes[-1]
    nested = {"prompt": {"text": "a", "lang": "en"}, "response": {"text": "b", "lang": "de"}}
    assert rows(put(tmp_path, "b.json", json.dumps(nested)))[0] == {"prompt": "a", "response": "b"}


def test_what_stands_beside_a_list_of_rows_is_named(tmp_path):
    path = put(tmp_path, "a.json", json.dumps({"version": "1", "data": ROWS}))
    reader = open_rows(path)
    assert [row for _, row in reader] == ROWS
    assert reader.notes == ["The rows are the list “data” of the object. Not used: “version”."]
    viewer = {"features": [{"name": "prompt"}], "rows": [{"row_idx": 0, "row": ROWS[0]}]}
    assert rows(put(tmp_path, "b.json", json.dumps(viewer))) == ROWS[:1]
    talk = {"dialog": CHAT, "id": 1}
    assert rows(put(tmp_path, "c.json", json.dumps(talk))) == [talk]


FAULTS = [
    ('{"a": NaN}', "NaN is not JSON", "null", 7),
    ('{"b": "NaN", "a": -Infinity}', "-Infinity is not JSON", "null", 19),
    ("{'a': 'b'}", "single quotes", "double quotes", 2),
    ('{"a": \'b\'}', "single quotes", "double quotes", 7),
    ("{a: 1}", "key a without quotes", '"a"', 2),
    ('{"a": True}', "the word True", "true", 7),
    ('{"a": None}', "the word None", "null", 7),
    ('{"a": undefined}', "the word undefined", "null", 7),
    ('{"a": "b",}', "comma before the closing }", "Remove the comma", 11),
    ('{"a": ["b",]}', "comma before the closing ]", "Remove the comma", 12),
    ('{"a": 1 // one\n}', "comment", "no comments", 9),
    ('{“a”: 1}', "typographic quote", "plain double quotes", 2),
    ('{"a": "C:\\data"}', "escape", "two of them", 10),
    ('{"a": "say "hi""}', "a quote inside a text", 'as \\"', 13),
    ('{"a": "b" "c": "d"}', "before a quote", "comma", 11),
    ('{"a": 1} x', "more text after the end of the JSON value: “x”", "Remove this text", 9),
]  # fmt: skip


@pytest.mark.parametrize("row, what, fix, column", FAULTS)
def test_faults_are_named_with_place_and_fix(tmp_path, row, what, fix, column):
    whole = f"{ONE}\n{row}\n{ONE}\n"
    error = refusal(put(tmp_path, "a.jsonl", whole))
    assert what in error.what and fix in error.fix
    assert error.where == f"a.jsonl, line 2, column {column}"
    assert error.offer == {"skip_damaged": True}


def test_two_values_on_a_line_are_not_to_be_removed(tmp_path):
    error = refusal(put(tmp_path, "a.jsonl", f"{ONE}\n{ONE}{ONE}\n{ONE}\n"))
    assert error.what == "Two JSON values stand on one line." and "Remove" not in error.fix


@pytest.mark.parametrize("shape", ["lines", "pretty", "list", "pretty list", "one line"])
def test_a_file_that_is_cut_off_loses_its_last_row_only(tmp_path, shape):
    texts = {
        "lines": "\n".join(map(json.dumps, ROWS)),
        "pretty": "\n".join(map(pretty, ROWS)),
        "list": json.dumps(ROWS),
        "pretty list": pretty(ROWS),
        "one line": "".join(map(json.dumps, ROWS)),
    }
    path = put(tmp_path, "a.json" if "list" in shape else "a.jsonl", texts[shape][:-12])
    error = refusal(path)
    assert "too early" in error.what and error.offer == {"skip_damaged": True}
    assert f"line {texts[shape][:-12].count(chr(10)) + 1}," in error.where
    kept, damaged = skipped(path)
    assert kept == ROWS[:3] and len(damaged) == 1


def test_a_list_without_its_end_can_be_read(tmp_path):
    path = put(tmp_path, "a.json", json.dumps(ROWS)[:-1])
    error = refusal(path)
    assert "not closed" in error.what and error.offer == {"skip_damaged": True}
    assert rows(path, skip_damaged=True) == ROWS
    reader = open_rows(path, options=ReadOptions(skip_damaged=True))
    list(reader)
    assert "cut off" in reader.notes[-1]


def test_a_broken_object_among_pretty_ones_is_left_out_alone(tmp_path):
    broken = pretty(ROWS[1]).replace('": "', '": ', 1)
    path = put(tmp_path, "a.jsonl", "\n".join([pretty(ROWS[0]), broken, pretty(ROWS[2])]))
    assert "line 6" in refusal(path).where
    assert skipped(path)[0] == [ROWS[0], ROWS[2]]


def test_rows_longer_than_a_chunk(tmp_path):
    long = [{"prompt": "x" * 700_000, "response": str(at)} for at in range(5)]
    assert rows(put(tmp_path, "a.jsonl", "\n".join(map(pretty, long)))) == long
    assert rows(put(tmp_path, "b.jsonl", ",".join(map(json.dumps, long)))) == long
