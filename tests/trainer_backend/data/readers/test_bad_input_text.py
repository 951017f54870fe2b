"""Text files with every kind of damage: cases 46 to 56 and 60 of the acceptance list."""

import json

import pytest
from reading_cases import detected, put, refusal, rows, skipped

from trainer_backend.data.formats.example import to_example
from trainer_backend.data.json_values import to_json
from trainer_backend.data.readers.files import open_rows
from trainer_backend.data.readers.options import ReadOptions
from trainer_backend.data.reading.preview import preview_file
from trainer_backend.errors import UserError

HEAD = "prompt,response\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("\ufeffa,b\nä,2\n".encode(), "UTF-8 with a byte order mark"),
        ("a,b\nä,2\n".encode("utf-16"), "UTF-16"),
        ("a,b\nä,2\n".encode("utf-16-be"), "UTF-16-BE"),
        ("a,b\r\nä,2\r\n".encode(), ""),
        ("a,b\rä,2\r".encode(), ""),
        ("a,b\r\nä,2\n\r\r\n".encode(), ""),
    ],
)
def test_case_46_marks_utf16_and_line_endings(tmp_path, content, said):
    path = put(tmp_path, "a.csv", content)
    assert rows(path) == [{"a": "ä", "b": "2"}]
    assert said in " ".join(open_rows(path).notes)


def test_case_47_latin1_is_offered_with_a_preview(tmp_path):
    latin = put(tmp_path, "a.csv", HEAD + "x,y\n" * 810 + "caf\xe9,y\n", encoding="latin-1")
    error = refusal(latin)
    assert error.what == "The text is not UTF-8." and error.where == "a.csv, line 812, byte 4"
    assert error.code == "encoding" and error.offer["encoding"] == "latin-1"
    assert error.offer["preview"] == "café,y" and "café,y" in error.fix
    preview = preview_file(latin, options=ReadOptions(encoding="latin-1"))
    assert preview.rows == [(811, {"prompt": "café", "response": "y"})], "the row it decides"
    assert "Latin-1" in open_rows(latin, options=ReadOptions(encoding="latin-1")).notes[0]


def test_case_47_windows_1252_is_distinguished_from_latin1(tmp_path):
    path = put(tmp_path, "a.jsonl", '{"a":"“quoted” – €"}\n', encoding="cp1252")
    assert refusal(path).offer["encoding"] == "cp1252"
    assert rows(path, encoding="cp1252") == [{"a": "“quoted” – €"}]


def test_case_47_a_fault_in_utf8_text_is_not_called_latin1(tmp_path):
    path = put(tmp_path, "a.csv", HEAD.encode() + "ä,b\n".encode() + b"\xe9,b\nc,d\n")
    assert refusal(path).offer == {"skip_damaged": True}
    kept, damaged = skipped(path)
    assert [row["prompt"] for row in kept] == ["ä", "c"]
    assert damaged == [(3, "The text is not UTF-8.")]


@pytest.mark.parametrize("encoding", ["cp1251", "shift_jis", "gb18030", "big5", "euc-kr", "koi8-r"])
def test_case_47_other_encodings_can_be_chosen(tmp_path, encoding):
    text = {"cp1251": "привет", "koi8-r": "привет", "euc-kr": "안녕"}.get(encoding, "日本")
    path = put(tmp_path, "a.csv", HEAD + f"{text},b\n", encoding=encoding)
    assert rows(path, encoding=encoding) == [{"prompt": text, "response": "b"}]
    assert "encoding" in refusal(path).offer


def test_case_47_a_wrong_choice_is_refused(tmp_path):
    path = put(tmp_path, "a.csv", HEAD.encode() + b"\x81,b\n")
    error = refusal(path, encoding="cp1252")
    assert "not Western European (Windows-1252)" in error.what and "line 2, byte 1" in error.where
    assert "Unknown encoding “rot13”" in refusal(path, encoding="rot13").what


@pytest.mark.parametrize(
    ("name", "content", "what", "where", "left"),
    [
        ("a.csv", HEAD + "a,b\nx\0,y\nc,d\n", "NUL", "line 3, column 2", ["a", "c"]),
        ("b.csv", HEAD + 'a,b\n"x\ny\0","z"\nc,d\n', "NUL", "line 4, column 2", ["a", "c"]),
        ("a.jsonl", '{"prompt":"a"}\n{"prompt":"\\u0000"}\n{"prompt":"c"}\n', "NUL", "line 2",
         ["a", "c"]),
        ("b.jsonl", '{"prompt":"a"}\n{"prompt":"\\ud83d"}\n', "lone surrogate", "line 2", ["a"]),
        ("c.jsonl", '{"prompt":"a"}\n{"prompt":"x\x01"}\n', "control character", "line 2", ["a"]),
        ("a.json", '[{"prompt":"a"},\n{"prompt":"\\udc00"},\n{"prompt":"c"}]', "lone surrogate",
         "line 2", ["a", "c"]),
    ],
)  # fmt: skip
def test_case_48_nul_surrogates_and_control_characters(tmp_path, name, content, what, where, left):
    path = put(tmp_path, name, content)
    error = refusal(path)
    assert what in error.what and where in error.where
    assert error.offer == {"skip_damaged": True} and error.code == "damaged"
    kept, damaged = skipped(path)
    assert [row["prompt"] for row in kept] == left and len(damaged) == 1


@pytest.mark.parametrize(
    ("mark", "said"), [(";", "semicolon"), ("\t", "tab"), ("|", "vertical bar")]
)
def test_case_49_other_delimiters_are_found_and_shown(tmp_path, mark, said):
    long = "x" * 1_000_000
    path = put(tmp_path, "a.csv", f'a{mark}b\n"one\ntwo"{mark}"say ""hi"", ok"\n{long}{mark}z\n')
    assert rows(path) == [{"a": "one\ntwo", "b": 'say "hi", ok'}, {"a": long, "b": "z"}]
    assert said in open_rows(path).notes[0]


def test_case_49_a_delimiter_can_be_chosen(tmp_path):
    path = put(tmp_path, "a.csv", "a;b,c\n1;2,3\n")
    assert rows(path, delimiter=",") == [{"a;b": "1;2", "c": "3"}]
    assert rows(path, delimiter=";") == [{"a": "1", "b,c": "2,3"}]
    assert "cannot be separated" in refusal(path, delimiter="x").what


def test_case_49_a_space_after_each_comma(tmp_path):
    path = put(tmp_path, "a.csv", 'prompt, response\n"a", "b, c"\n" d", "e"\n')
    assert rows(path) == [{"prompt": "a", "response": "b, c"}, {"prompt": " d", "response": "e"}]
    assert open_rows(path).notes == ["A space after each comma is not part of the text."]
    path = put(tmp_path, "b.csv", 'prompt,response\na, "b"\nc, d\n')
    assert rows(path)[1] == {"prompt": "c", "response": " d"}, "where it fits as it stands"


def test_case_49_tab_separated_text_with_plain_quotes(tmp_path):
    lines = [['He said "hi', "yes"], ['"quote start', 'x"'], ["b", '"c"']]
    content = "q\ta\n" + "".join("\t".join(line) + "\n" for line in lines)
    path = put(tmp_path, "a.tsv", content)
    assert [list(row.values()) for row in rows(path)] == lines
    assert open_rows(path).notes == ["Quotes are part of the text."]
    quoted = put(tmp_path, "b.tsv", 'q\ta\n"x\ty"\t"a ""b"""\n"one\ntwo"\tz\n')
    assert [row["q"] for row in rows(quoted)] == ["x\ty", "one\ntwo"]


def test_case_50_an_open_quote_is_found_where_it_opens(tmp_path):
    path = put(tmp_path, "a.csv", HEAD + "a,b\n" * 3 + '"open,b\n' + "c,d\n" * 500)
    error = refusal(path)
    assert "never closed" in error.what and error.where == "a.csv, line 5"
    assert error.offer is None, "what follows the quote cannot be told from text"
    assert "never closed" in refusal(path, skip_damaged=True).what


def test_case_51_ragged_rows_are_named_and_never_shifted(tmp_path):
    path = put(tmp_path, "a.csv", HEAD + 'a,b\nc\nd,e,f\n"g\nh",i,j\nk,l\n')
    error = refusal(path)
    assert "1 column, the header has 2" in error.what and error.where == "a.csv, line 3"
    kept, damaged = skipped(path)
    assert [list(row.values()) for row in kept] == [["a", "b"], ["k", "l"]]
    assert [line for line, _ in damaged] == [3, 4, 5]


def test_case_51_a_row_that_swallowed_lines_names_them(tmp_path):
    path = put(tmp_path, "a.csv", HEAD + 'a,b\n"c\nd\ne" f,g\nh,i\n')
    kept, damaged = skipped(path)
    assert [row["prompt"] for row in kept] == ["a", "h"]
    assert damaged[0][0] == 3 and "lines 3 to 5" in damaged[0][1]


LOOKALIKES = ["NA", "None", "null", "007", "1e5", "2020-01-01", "1,000", "TRUE", "", "1.10", "0x1F"]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_case_52_text_that_looks_like_values_stays_text(tmp_path, kind):
    texts = [text for text in LOOKALIKES if text]
    data = [{"prompt": "p", "response": text} for text in texts]
    if kind == "csv":
        content = HEAD + "".join(f'p,"{text}"\n' for text in texts)
    else:
        content = "".join(json.dumps(row) + "\n" for row in data)
    path = put(tmp_path, f"a.{kind}", content)
    mapping = detected(path).mapping
    said = [to_example(1, row, mapping).messages[1]["content"] for row in rows(path)]
    assert said == texts


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("a,b,a\n1,2,3\n", "same name “a”"),
        (HEAD, "header but no rows"),
        (",".join(["x" * 50, "y" * 50]) + "\na,b\n", ""),
        ("a,,b\n1,2,3\n", ""),
    ],
)
def test_case_53_headers(tmp_path, content, what):
    path = put(tmp_path, "a.csv", content)
    if what:
        assert what in refusal(path).what
        return
    found = detected(path)
    assert not found.sure
    assert "“column 2”" in found.sentence or "not a header" in found.sentence


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("cut.jsonl", '{"a":1}\n{"a":"b', "line 2"),
        ("blank.jsonl", '\n{"a":"1"}\n\n \n{"a":"2"}\n\n', ["1", "2"]),
        ("comma.json", '[{"a":"1"},\n{"a":"2"},\n]', "line 3, column 1"),
        ("scalar.jsonl", "5\n", "line 1"),
        ("array.jsonl", '[{"a":"1"},{"a":"2"}]', ["1", "2"]),
        ("columns.json", '{"a":["1","2"],"b":["x","y"]}', ["1", "2"]),
    ],
)
def test_case_54_json_in_every_layout(tmp_path, name, content, found):
    path = put(tmp_path, name, content)
    if isinstance(found, str):
        error = refusal(path)
        assert found in error.where and error.fix
    else:
        assert [row["a"] for row in rows(path)] == found


def test_case_54_broken_lines_can_be_left_out(tmp_path):
    path = put(tmp_path, "a.jsonl", '{"a":"1"}\n{"a":\n[1]\n{"a":"2"},\n{"a":"3"}\n{"a":"4')
    kept, damaged = skipped(path)
    assert [row["a"] for row in kept] == ["1", "3"]
    assert [line for line, _ in damaged] == [2, 3, 4, 6]


@pytest.mark.parametrize(
    ("value", "what"),
    [('{"a":1,"a":2}', "twice"), ('{"a":NaN}', "NaN"), ('{"a":-Infinity}', "Infinity"),
     ('{"a":' + "7" * 5_000 + "}", "5,000 digits")],
)  # fmt: skip
def test_case_55_values_json_cannot_hold(tmp_path, value, what):
    lines = put(tmp_path, "a.jsonl", f'{{"a":0}}\n{value}\n{{"a":3}}\n')
    array = put(tmp_path, "a.json", f'[{{"a":0}},\n{value},\n{{"a":3}}]')
    for path in (lines, array):
        error = refusal(path)
        assert what in error.what and "line 2" in error.where
        kept, damaged = skipped(path)
        assert kept == [{"a": 0}, {"a": 3}] and damaged[0][0] == 2


def test_case_55_a_long_number_keeps_all_digits(tmp_path):
    text = '{"a":123456789012345678901234567890}'
    assert to_json(rows(put(tmp_path, "a.jsonl", text))[0]) == text


@pytest.mark.parametrize("depth", [70, 100_000])
def test_case_56_deep_nesting(tmp_path, depth):
    deep = '{"a":' + "[" * depth + "]" * depth + "}"
    for name, content in (("a.jsonl", f'{{"a":0}}\n{deep}\n'), ("a.json", f'[{{"a":0}},{deep}]')):
        assert "deeper than 64" in refusal(put(tmp_path, name, content)).what
    kept, _ = skipped(put(tmp_path, "b.jsonl", f'{{"a":0}}\n{deep}\n'))
    assert kept == [{"a": 0}]


def test_rows_left_out_are_noted_before_the_end(tmp_path):
    path = put(tmp_path, "a.jsonl", '{"a":1}\n{\n{"a":2}\n{\n{"a":3}\n{"a":4}\n')
    reader = open_rows(path, options=ReadOptions(skip_damaged=True))
    rows = iter(reader)
    for _ in range(3):
        next(rows)
    assert reader.notes == ["2 damaged rows are left out: lines 2, 4 of the file."]
    list(rows)
    assert len(reader.notes) == 1 and list(reader) and len(reader.notes) == 1


def test_all_rows_damaged_is_an_error(tmp_path):
    error = refusal(put(tmp_path, "a.jsonl", "{a}\n{b}\n"), skip_damaged=True)
    assert "None of the 2 rows can be read" in error.what


def test_a_row_limit(tmp_path):
    path = put(tmp_path, "a.jsonl", '{"a":1}\n' * 9)
    reader = open_rows(path, options=ReadOptions(max_rows=4))
    assert len(list(reader)) == 4 and "first 4 rows" in reader.notes[-1]
    with pytest.raises(UserError, match="1 or more"):
        open_rows(path, options=ReadOptions(max_rows=0))


def test_a_damaged_header_is_never_left_out(tmp_path):
    for head in (b"prompt\0,response\n", b"pr\xe9mpt,response\n", b'"a" b,response\n'):
        path = put(tmp_path, "a.csv", head + b"a,b\nc,d\n")
        assert refusal(path, skip_damaged=True).where.startswith("a.csv, line 1")
