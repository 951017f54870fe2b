"""Damaged files: whatever the bytes, reading and understanding raise UserError or nothing."""

import gzip
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer_backend.data.checks import Checker
from trainer_backend.data.conversations import RowError
from trainer_backend.data.files import read_rows
from trainer_backend.data.formats import detect_format, to_example
from trainer_backend.data.json_values import to_json
from trainer_backend.errors import UserError

PAIRS = [{"prompt": f"é {at}", "response": f'x"\n,;{at}'} for at in range(4)]
TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b🎉"}]
CHATS = [{"messages": TURNS, "tools": "[]"}] * 3
SHARED = [{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}] * 2
JUNK = """" , { } [ ] \\u null NaN 1e999 -0 : ' true messages role \\ud800 99999999999999999999"""
JUNK = [word.encode() for word in JUNK.split()]
JUNK += [b"\n", b"\r", b"\0", b"\xff", b"\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"    "]


def csv_text(delimiter: str) -> str:
    cells = ([row["prompt"], row["response"].replace('"', '""')] for row in PAIRS)
    body = "".join(f'"{prompt}"{delimiter}"{response}"\n' for prompt, response in cells)
    return f"prompt{delimiter}response\n{body}"


def parquet_bytes(rows: list[dict]) -> bytes:
    out = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue().to_pybytes()


LINES = "\n".join(map(json.dumps, PAIRS)).encode()
SEEDS = [
    ("a.csv", csv_text(",").encode()),
    ("b.csv", csv_text(";").encode("utf-16")),
    ("a.tsv", csv_text("\t").encode()),
    ("a.jsonl", LINES),
    ("b.jsonl", "\n".join(map(json.dumps, CHATS)).encode()),
    ("a.json", json.dumps(PAIRS, indent=1, ensure_ascii=False).encode()),
    ("b.json", json.dumps(SHARED).encode()),
    ("c.json", b'{"prompt":["a"],"response":["b"]}'),
    ("a.parquet", parquet_bytes(PAIRS)),
    ("b.parquet", parquet_bytes(CHATS)),
    ("a.jsonl.gz", gzip.compress(LINES)),
]


def damaged(data: bytes, random_: random.Random) -> bytes:
    """A few bytes changed, put in, taken out, repeated, or the end cut off."""
    parts = bytearray(data)
    for _ in range(random_.choice((1, 1, 2, 3, 8))):
        at = random_.randrange(len(parts) + 1)
        kind = random_.randrange(5)
        if kind == 0:
            parts[at : at + 1] = bytes([random_.randrange(256)])
        elif kind == 1:
            parts[at:at] = random_.choice(JUNK)
        elif kind == 2:
            del parts[at : at + random_.randrange(1, 20)]
        elif kind == 3:
            parts[at:at] = parts[random_.randrange(len(parts) + 1) :][: random_.randrange(40)]
        else:
            parts = parts[:at] or bytearray(b"x")
    return bytes(parts)


def understand(path) -> None:
    rows = list(read_rows(path))
    mapping = detect_format([row for _, row in rows]).mapping
    checker = Checker(path.name)
    for number, row in rows:
        to_json(row).encode()
        try:
            if mapping:
                checker.see(to_example(number, row, mapping))
        except RowError as error:
            checker.drop(number, error)
    assert all(problem.what and problem.where and problem.fix for problem in checker.finish())


@pytest.mark.parametrize(("name", "data"), SEEDS, ids=[name for name, _ in SEEDS])
def test_damaged_files_are_read_or_refused(tmp_path, name, data):
    random_ = random.Random(name)
    path = tmp_path / name
    path.write_bytes(data)
    understand(path)
    for _ in range(150):
        path.write_bytes(damaged(data, random_))
        try:
            understand(path)
        except UserError as error:
            assert error.what and name in error.where and error.fix
