"""Readers: text is exact, and errors in bad files name the line."""

import gzip
import json
import pickle
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer_backend.data.json_values import NumberText, cell_text, to_json
from trainer_backend.data.readers.files import open_rows, read_rows
from trainer_backend.data.readers.options import DOCUMENT_SUFFIXES, SUFFIXES
from trainer_backend.errors import UserError


@pytest.fixture
def put(tmp_path):
    """Write a file and return its path."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def rows(path: Path) -> list[dict]:
    return [row for _, row in read_rows(path)]


def refusal(path: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        list(read_rows(path))
    error = caught.value
    assert error.what and error.fix and path.name in error.where
    assert str(path.parent) not in f"{error.what} {error.where} {error.fix}"
    return error


TRICKY = [
    "NA", "None", "null", "007", "1e5", "1.10", "2020-01-01", "=cmd()", "  spaces ", 'a "quote"',
    "line\nbreak", "line\r\nbreak", "tab\there", "héllo 🎉 👩‍👩‍👧", "\u2028",
    "a,b;c|d", "'", "<script>", "", "12345678901234567890123456789012", "\u00a0", "true",
]  # fmt: skip


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_text_is_exact(put, delimiter):
    body = "".join(f"{quoted(text)}{delimiter}{quoted(text)}\n" for text in TRICKY)
    path = put("a.csv", f"prompt{delimiter}response\n{body}")
    assert rows(path) == [{"prompt": text, "response": text} for text in TRICKY]


def test_json_lines_and_array_text_is_exact(put):
    data = [{"prompt": text, "response": text} for text in TRICKY]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in data)
    assert rows(put("a.jsonl", lines)) == data
    assert rows(put("a.json", json.dumps(data, indent=2))) == data
    assert rows(put("b.json", lines)) == data
    assert rows(put("b.jsonl", json.dumps(data))) == data


def test_parquet_text_is_exact(tmp_path):
    data = [{"prompt": text, "response": text, "n": at} for at, text in enumerate(TRICKY)]
    pq.write_table(pa.Table.from_pylist(data), tmp_path / "a.parquet")
    assert rows(tmp_path / "a.parquet") == data


def test_numbers_keep_their_spelling(put):
    text = '{"a":1.10,"b":-0,"c":1E5,"d":123456789012345678901234567890,"e":0.5,"f":[2.50,null]}'
    (row,) = rows(put("a.jsonl", text))
    assert cell_text(row["a"]) == "1.10" and row["b"] == NumberText("-0")
    assert row["d"] == 123456789012345678901234567890 and row["e"] == 0.5
    assert to_json(row) == text


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings_and_line_endings(put, encoding, ending):
    text = ending.join(["prompt,response", "héllo,wörld 🎉", "a,b", ""])
    path = put("a.csv", text.encode(encoding))
    assert rows(path) == [
        {"prompt": "héllo", "response": "wörld 🎉"},
        {"prompt": "a", "response": "b"},
    ]
    text = ending.join(['{"prompt":"héllo"}', "", '{"prompt":"b"}'])
    assert rows(put("a.jsonl", text.encode(encoding))) == [{"prompt": "héllo"}, {"prompt": "b"}]
    said = open_rows(path).notes
    assert bool(said) == (encoding != "utf-8")


def test_gzip_of_each(put):
    data = [{"prompt": "a", "response": "b"}] * 3
    table = pa.Table.from_pylist(data)
    lines = "\n".join(map(json.dumps, data))
    assert rows(put("a.csv.gz", gzip.compress(b"prompt,response\na,b\na,b\na,b\n"))) == data
    assert rows(put("a.jsonl.gz", gzip.compress(lines.encode()))) == data
    assert rows(put("a.json.gz", gzip.compress(json.dumps(data).encode()))) == data
    assert table.num_rows == 3
    cut = gzip.compress(lines.encode())[:-10]
    assert "damaged" in refusal(put("cut.jsonl.gz", cut)).what


@pytest.mark.parametrize(
    "text",
    [
        '{"prompt":["a","b"],"response":["c","d"]}',
        '{"prompt":{"0":"a","1":"b"},"response":{"0":"c","1":"d"}}',
        '{"version":1,"data":[{"prompt":"a","response":"c"},{"prompt":"b","response":"d"}]}',
        '[{"prompt":"a","response":"c"},\n{"prompt":"b","response":"d"}]\n',
    ],
)
def test_json_layouts(put, text):
    expected = [{"prompt": "a", "response": "c"}, {"prompt": "b", "response": "d"}]
    assert rows(put("a.json", text)) == expected


def test_one_object_and_one_chat(put):
    assert rows(put("a.json", '{\n"prompt": "a",\n"response": "b"\n}')) == [
        {"prompt": "a", "response": "b"}
    ]
    chat = {"messages": [{"role": "user", "content": "a"}]}
    assert rows(put("b.json", json.dumps(chat))) == [chat]


def test_row_numbers_skip_blank_lines(put):
    numbers = [number for number, _ in read_rows(put("a.jsonl", '\n{"a":1}\n\n\n{"a":2}\n'))]
    assert numbers == [1, 2]


def test_array_larger_than_one_chunk(put):
    data = [{"prompt": "ä" * 700_000, "response": str(at)} for at in range(5)]
    assert rows(put("a.json", json.dumps(data))) == data
    error = refusal(put("b.json", json.dumps(data)[:-1] + "\n, {"))
    assert error.where == "b.json, line 2, column 4"


def test_the_delimiter_is_found_and_noted(put):
    reader = open_rows(put("a.csv", "prompt;response\nHello, you;Hi, there\n"))
    assert [row for _, row in reader] == [{"prompt": "Hello, you", "response": "Hi, there"}]
    assert reader.notes == ["Columns are separated by a semicolon."]
    assert rows(put("b.csv", "a,b\n1;2,3\n")) == [{"a": "1;2", "b": "3"}]
    assert rows(put("c.csv", "sep=;\na;b\n1,2;3\n")) == [{"a": "1,2", "b": "3"}]


def test_progress_reaches_the_end(put):
    seen = []
    path = put("a.jsonl", '{"a":1}\n' * 5_000)
    assert sum(1 for _ in read_rows(path, on_progress=lambda *at: seen.append(at))) == 5_000
    assert seen[-1] == (path.stat().st_size, path.stat().st_size) and len(seen) >= 3


CSV = "prompt,response\n"
BAD = [  # name, content, what is said, where it points
    ("empty.csv", "", "is empty", "empty.csv"),
    ("blank.jsonl", " \n\n", "is empty", "blank.jsonl"),
    ("header.csv", CSV, "header but no rows", "header.csv"),
    ("none.json", "[]", "no rows", "none.json"),
    ("none2.json", '{"prompt":[],"response":[]}', "no rows", "none2.json"),
    ("a.docx", "hello", "cannot be read", "a.docx"),
    ("noending", "hello", "no ending", "noending"),
    ("a.xlsx", "hello", "not an Excel", "a.xlsx"),
    ("a.xls", "hello", "cannot be read", "a.xls"),
    ("a.arrow", "hello", "not an Arrow", "a.arrow"),
    ("sep.csv", "sep=;\na;b\n", "header but no rows", "sep.csv"),
    ("json.csv", '{"a": 1}', "holds JSON", "json.csv"),
    ("array.csv", '[\n {"a": 1}]', "holds JSON", "array.csv"),
    ("csv.json", CSV + "a,b\n", "not JSON", "line 1, column 1"),
    ("csv.parquet", CSV, "not a Parquet file", "csv.parquet"),
    ("parquet.csv", b"PAR1....PAR1", "holds Parquet", "parquet.csv"),
    ("a.parquet.gz", gzip.compress(b"PAR1...."), "cannot be read", "a.parquet.gz"),
    ("cut.parquet", b"PAR1....", "cannot be read", "cut.parquet"),
    ("encrypted.parquet", b"PARE" + b"\x01" * 40, "an encrypted Parquet", "encrypted.parquet"),
    ("sheet.csv", b"PK\x03\x04....", "holds a zip archive", "sheet.csv"),
    ("old.csv", b"\xd0\xcf\x11\xe0....", "Excel", "old.csv"),
    ("evil.json", pickle.dumps({"a": 1}), "pickle", "evil.json"),
    ("evil.csv", pickle.dumps(["a"], protocol=2), "pickle", "evil.csv"),
    ("latin.csv", CSV.encode() + b"ok,ok\na,caf\xe9\n", "not UTF-8", "line 3, byte 6"),
    ("latin_cr.csv", b"a,b\rx,y\rq,\xe9\r", "not UTF-8", "line 3, byte 3"),
    ("latin.jsonl", b'{"a":"ok"}\n{"a":"\xff"}\n', "not UTF-8", "line 2, byte 7"),
    ("odd.csv", "a,b\n1,2\n".encode("utf-16") + b"\x00", "not UTF-16", "near its end"),
    ("ragged+.csv", CSV + "a,b\na,b,c\n", "3 columns, the header has 2", "line 3"),
    ("ragged-.csv", CSV + "a,b\na\n", "1 column, the header has 2", "line 3"),
    ("ragged2.csv", CSV + '"a\nb",c\na,b,c\n', "3 columns", "line 4"),
    ("open.csv", CSV + 'a,b\na,"b\nc,d\ne,f\n', "never closed", "line 3"),
    ("open2.csv", CSV + '"a\nb","c\nd\n', "never closed", "line 3"),
    ("after.csv", CSV + '"a" b,c\n', "follows a closing quote", "line 2"),
    ("nul.csv", CSV + "a,b\0\n", "NUL", "line 2, column 4"),
    ("twice.csv", "a,b,a\n1,2,3\n", "same name “a”", "line 1, columns 1 and 3"),
    ("broken.jsonl", '{"a":1}\n{"a":}\n', "Broken JSON", "line 2, column 6"),
    ("cut.jsonl", '{"a":1}\n{"a":"b', "Broken JSON", "line 2"),
    ("comma.jsonl", '{"a":1} 5\n{"a":2}\n', "more text after", "line 1, column 8"),
    ("single.jsonl", "{'a': 1}\n{'a': 2}\n", "Broken JSON", "line 1, column 2"),
    ("scalar.jsonl", '{"a":1}\n5\n', "a number", "line 2"),
    ("list.jsonl", '{"a":1}\n[1]\n', "a list", "line 2"),
    ("null.json", '[{"a":1},\nnull]', "this is null", "line 2"),
    ("comma.json", '[{"a":1},\n{"a":2},\n]', "Broken JSON", "line 3, column 1"),
    ("missing.json", '[{"a":1}\n{"a":2}]', "comma is missing", "line 2"),
    ("cut.json", '[{"a":1},\n{"a":', "Broken JSON", "line 2"),
    ("unclosed.json", '[{"a":1},\n{"a":2}', "not closed", "line 2"),
    ("after.json", '[{"a":1}]\nx', "after the end", "line 2"),
    ("lists.json", '{"train":[{"a":1}],"test":[{"a":1}]}', "several lists", "lists.json"),
    ("lengths.json", '{"a":["x"],"b":["y","z"]}', "different lengths", "lengths.json"),
    ("keys.jsonl", '{"a":1}\n{"a":1,"a":2}', "“a” appears twice", "line 2"),
    ("nan.jsonl", '{"a":NaN}', "NaN", "line 1"),
    ("inf.json", '[{"a":-Infinity}]', "-Infinity", "line 1"),
    ("digits.jsonl", '{"a":' + "9" * 5_000 + "}", "5,000 digits", "line 1"),
    ("surrogate.jsonl", '{"a":"x"}\n{"a":"\\ud83d"}', "half a character", "line 2"),
    ("surrogate.json", '[{"\\udc00":1}]', "half a character", "line 1"),
    ("nul.jsonl", '{"a":"\\u0000"}', "NUL", "line 1"),
    ("deep.jsonl", '{"a":' + "[" * 70 + "]" * 70 + "}", "deeper than 64", "line 1"),
    ("deeper.json", "[" * 100_000, "deeper than 64", "line 1"),
    ("wide.csv", ",".join(f"c{at}" for at in range(1_001)) + "\n", "1,001 columns", "line 1"),
    ("wide.jsonl", json.dumps({str(at): 1 for at in range(1_001)}), "1,001 keys", "line 1"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "what", "where"), BAD, ids=[case[0] for case in BAD])
def test_bad_files_say_what_and_where(put, name, content, what, where):
    error = refusal(put(name, content))
    assert what in error.what
    assert where in error.where


def test_missing_file_and_folder(tmp_path):
    assert "not found" in refusal(tmp_path / "gone.csv").what
    (tmp_path / "folder.csv").mkdir()
    assert "cannot be read" in refusal(tmp_path / "folder.csv").what


def test_parquet_refusals(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [b"\x00\x01"]}), path)
    assert refusal(path).where == "a.parquet, row 1, column “a”"
    pq.write_table(pa.table({"a": ["x", "y\0"]}), path)
    assert refusal(path).where == "a.parquet, row 2, column “a”"
    pq.write_table(pa.table({f"c{at}": ["x"] for at in range(1_001)}), path)
    assert "1,001 columns" in refusal(path).what


def test_parquet_times_and_damaged_text(tmp_path):
    path = tmp_path / "a.parquet"
    times = pa.array([1, None], pa.timestamp("ns"))
    pq.write_table(pa.table({"when": times, "days": pa.array([0, 1], pa.date32())}), path)
    assert rows(path) == [
        {"when": "1970-01-01 00:00:00.000000001", "days": "1970-01-01"},
        {"when": None, "days": "1970-01-02"},
    ]
    broken = pa.StringArray.from_buffers(
        1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")
    )
    pq.write_table(pa.table({"a": broken}), path)
    assert "not UTF-8" in refusal(path).what


def test_valid_escapes_are_kept(put):
    text = '{"a":"\\ud83c\\udf89 \\\\u0000 \\u00e9"}'
    assert rows(put("a.jsonl", text)) == [{"a": "🎉 \\u0000 é"}]


def run_limited(code: str, megabytes: int) -> str:
    """Run code in a process that may not use more memory than this."""
    limit = megabytes * 2**20

    def cap():
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=50,
        preexec_fn=cap, cwd=Path(__file__).parents[4], check=False,
    )  # fmt: skip
    return done.stdout + done.stderr[-500:]


READ = """
from pathlib import Path
from trainer_backend.data.readers.files import read_rows
from trainer_backend.errors import UserError
path = Path({path!r})
{write}
try:
    print(sum(1 for _ in read_rows(path)))
except UserError as error:
    print("refused:", error.what, "|", error.where)
"""


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("line.jsonl", "path.write_text('{\"a\":\"' + 'x' * 3 * 10**7)", "longer than 16 MB"),
        ("quote.csv", "path.write_text('a,b\\n1,\"2\\n' + 'x,y\\n' * 8_000_000)", "never closed"),
        ("columns.csv", "path.write_text(','.join(map(str, range(10**6))))", "1,000,000 columns"),
    ],
)  # fmt: skip
def test_bombs_stop_under_a_memory_limit(tmp_path, name, write, said):
    path = str(tmp_path / name)
    assert said in run_limited(READ.format(path=path, write=write), 700)


def test_suffixes_are_the_documented_ones():
    text = " ".join((*SUFFIXES, *DOCUMENT_SUFFIXES))
    assert text == (
        ".csv .tsv .json .jsonl .ndjson .parquet .arrow .feather .xlsx .ods .zip .txt .md"
    )


TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def test_a_list_of_turn_lists_is_one_conversation_a_row(put):
    assert rows(put("a.json", json.dumps([TURNS, TURNS]))) == [{"messages": TURNS}] * 2
    assert "this is a list" in refusal(put("a.json", "[[1, 2], [3, 4]]")).what


@pytest.mark.parametrize("key", ["messages", "contents", "chat"])
def test_an_object_with_one_conversation_is_one_row(put, key):
    assert rows(put("a.json", json.dumps({key: TURNS}))) == [{key: TURNS}]
    assert rows(put("a.json", json.dumps({"data": [{"q": "1"}]}))) == [{"q": "1"}]
