"""Damaged data files, made without end: reading and understanding must answer UserError or rows.

Run `python -m benchmarks.fuzz --minutes 10`; what breaks is kept in the temporary folder.
The tests read a few hundred such files.
"""

import argparse
import base64
import gzip
import io
import json
import random
import resource
import signal
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

from trainer_backend.data.formats import check_mapping, detect_format, to_example
from trainer_backend.data.json_values import cell_text, to_json
from trainer_backend.data.readers import open_rows
from trainer_backend.data.readers.options import ReadOptions
from trainer_backend.errors import RowError, UserError

KEPT = Path(tempfile.gettempdir()) / "sft-studio-fuzz"
SLOW = 20  # seconds after which one file counts as hanging
PAIRS = [{"prompt": f"é {at}", "response": f'x"\n,;{at}'} for at in range(4)]
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
TURNS = [
    {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]},
    {"role": "assistant", "content": None, "tool_calls": [CALL], "weight": 0},
    {"role": "tool", "content": "1", "tool_call_id": "1"},
    {"role": "assistant", "content": "b🎉", "reasoning_content": "hm", "train": True},
]
PIXEL = b"\x89PNG\r\n\x1a\n" + bytes(12)
DATA_URL = "data:image/png;base64," + base64.b64encode(PIXEL).decode()
CHATS = [{"messages": TURNS, "tools": "[]", "images": [DATA_URL], "system": "s"}] * 3
TALKS = [
    {"messages": [{"role": "user", "content": "a<image>"}, {"role": "assistant", "content": "b"}],
     "images": [{"bytes": PIXEL, "path": "a.png"}], "n": 1.5, "day": date(2020, 1, 31)}
] * 3  # fmt: skip
SHARED = [{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}] * 2
ALPACA = [{"instruction": "a", "input": "", "output": "b"}, {"messages": TURNS[2:]}, {"text": "x"}]
WORDS = """" , { } [ ] \\u null NaN 1e999 -0 : ' true messages role from value content weight train
tool_calls images image bytes path \\ud800 \\u0000 99999999999999999999 user assistant <image> ../
""".split()
JUNK = [word.encode() for word in WORDS]
JUNK += [b"\n", b"\r", b"\0", b"\xff", b"\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"    ", b"\n\n"]
JUNK += [number.to_bytes(4, "little") for number in (0, 1, 2**31 - 1, 2**31, 2**32 - 1)]
OPTIONS = [
    ReadOptions(),
    ReadOptions(skip_damaged=True),
    ReadOptions(encoding="latin-1", delimiter=";", skip_damaged=True),
    ReadOptions(encoding="gb18030", max_rows=2),
    ReadOptions(encoding="utf-16"),
    ReadOptions(encoding="euc-jp", skip_damaged=True),
    ReadOptions(encoding="iso2022-jp", skip_damaged=True),
    ReadOptions(header_row=2, skip_damaged=True),
]


def csv_text(delimiter: str) -> str:
    """The pairs as delimited text, every cell in quotes."""
    cells = ([row["prompt"], row["response"].replace('"', '""')] for row in PAIRS)
    body = "".join(f'"{prompt}"{delimiter}"{response}"\n' for prompt, response in cells)
    return f"prompt{delimiter}response\n{body}"


def lines(rows: list[dict]) -> bytes:
    """Rows as JSON Lines."""
    return "\n".join(map(json.dumps, rows)).encode()


def parquet_bytes(rows: list[dict]) -> bytes:
    """Rows as a Parquet file."""
    out = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue().to_pybytes()


def arrow_bytes(rows: list[dict], stream: bool, compression: str | None) -> bytes:
    """Rows as an Arrow file or stream."""
    table = pa.Table.from_pylist(rows)
    out = pa.BufferOutputStream()
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with make(out, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as file:
        file.write_table(table)
    return out.getvalue().to_pybytes()


def workbook_bytes() -> bytes:
    """Pairs, numbers, dates and a formula in two sheets."""
    book, out = openpyxl.Workbook(), io.BytesIO()
    book.active.append(["prompt", "response"])
    for row in PAIRS:
        book.active.append(list(row.values()))
    book.active.append([7.5, "=1+1"])
    book.create_sheet("More").append(["a"])
    book.save(out)
    return out.getvalue()


def titled_workbook() -> bytes:
    """A merged title above the header, a blank row, and a note below the table."""
    book, out = openpyxl.Workbook(), io.BytesIO()
    for line in (["FAQ 2024"], [], ["prompt", "response"], ["a", 1], ["b", None], [], ["Source"]):
        book.active.append(line)
    book.active.merge_cells("A1:B1")
    book.save(out)
    return out.getvalue()


def encoded() -> list[tuple[str, bytes]]:
    """(name, content) of tables and chats in encodings other than UTF-8."""
    chinese, japanese, both = "今天天气怎么样", "今日の天気は", "天气 как"
    texts = {"gb18030": chinese, "big5": "今天天氣怎麼樣", "utf-16-le": both, "utf-32": both}
    texts |= dict.fromkeys(("shift_jis", "euc-jp", "iso2022_jp"), japanese)
    texts |= {"euc-kr": "오늘 날씨 어때요", "cp1256": "كيف الطقس", "mac-roman": "déjà vu"}
    texts |= {"cp1251": "Какая погода", "koi8-r": "погода", "cp1252": "„Schön“ – 5 €"}
    return [
        (f"{name}.{kind}", text.encode(name))
        for name, sample in texts.items()
        for kind, text in (
            ("csv", f"prompt,response\n{sample},x\ny,{sample}\n"),
            ("jsonl", json.dumps({"prompt": sample, "response": "x"}, ensure_ascii=False) + "\n"),
        )
    ]


def zip_bytes(files: dict[str, bytes]) -> bytes:
    """A zip archive of these files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def seeds() -> list[tuple[str, bytes]]:
    """(name, content) of a good file of every kind."""
    inside = {"a.csv": csv_text(",").encode(), "x/b.jsonl": lines(CHATS), "x/c.png": PIXEL}
    return [
        ("a.csv", csv_text(",").encode()),
        ("b.csv", csv_text(";").encode("utf-16")),
        ("a.tsv", csv_text("\t").encode()),
        ("a.jsonl", lines(PAIRS)),
        ("b.jsonl", lines(CHATS)),
        ("c.jsonl", lines(ALPACA)),
        ("a.json", json.dumps(PAIRS, indent=1, ensure_ascii=False).encode()),
        ("b.json", json.dumps(SHARED).encode()),
        ("c.json", b'{"prompt":["a"],"response":["b"]}'),
        ("a.parquet", parquet_bytes(PAIRS)),
        ("b.parquet", parquet_bytes(TALKS)),
        ("a.arrow", arrow_bytes(TALKS, False, None)),
        ("b.arrow", arrow_bytes(PAIRS, True, "zstd")),
        ("a.xlsx", workbook_bytes()),
        ("a.zip", zip_bytes(inside)),
        ("a.jsonl.gz", gzip.compress(lines(PAIRS))),
        ("d.json", b"".join(json.dumps(row, indent=1).encode() for row in PAIRS)),
        ("d.jsonl", b",\n".join(json.dumps(row, indent=1).encode() for row in PAIRS)),
        ("e.jsonl", json.dumps([PAIRS[0]]).encode() * 3 + json.dumps([TURNS, TURNS]).encode()),
        ("e.json", b'{"columns":["a","b"],"index":[0],"data":[["x","y"]]}'),
        ("f.json", json.dumps({"q1": PAIRS[0], "q2": PAIRS[1]}).encode()),
        ("c.csv", b"FAQ of May 2024\n\nprompt,response\na,b\nc,d\n\nSource: us\n"),
        ("d.csv", b"sep=;\nprompt;response\n1;a;b\n2;c;d\n"),
        ("e.csv", b"'prompt','response'\n'a, b','c'\n"),
        ("b.xlsx", titled_workbook()),
        ("a.md", b"# One\n\n```\ncode\n\n```\n\n" + "wörd ".encode() * 900),
    ]


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, put in, taken out, repeated, or the end cut off."""
    parts = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        at = chance.randrange(len(parts) + 1)
        kind = chance.randrange(9)
        if kind < 2:
            parts[at : at + 1] = bytes([chance.randrange(256)])
        elif kind < 4:
            junk = chance.choice(JUNK)
            parts[at : at + len(junk) * chance.randrange(2)] = junk
        elif kind < 6:
            del parts[at : at + chance.randrange(1, 20)]
        elif kind < 8:
            parts[at:at] = parts[chance.randrange(len(parts) + 1) :][: chance.randrange(40)]
        else:
            parts = parts[:at] or bytearray(b"x")
    return bytes(parts)


def damaged_inside(data: bytes, chance: random.Random) -> bytes:
    """An archive or gzip file whose content is damaged while its frame is whole."""
    if data.startswith(b"\x1f\x8b"):
        return gzip.compress(damaged(gzip.decompress(data), chance))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = chance.choice(list(files))
    files[name] = damaged(files[name], chance)
    return zip_bytes(files)


def variant(data: bytes, chance: random.Random) -> bytes:
    """One damaged version of a good file."""
    framed = data.startswith((b"PK", b"\x1f\x8b"))
    return (damaged_inside if framed and chance.random() < 0.7 else damaged)(data, chance)


def understand(path: Path, options: ReadOptions) -> None:
    """Read a file and use every row; UserError is an answer, anything else a fault."""
    reader = open_rows(path, options=options)
    rows = list(reader)
    found = detect_format([row for _, row in rows])
    if found.mapping:
        check_mapping(found.mapping, found.columns, path.name)
    for number, row in rows:
        to_json(row).encode()
        for cell in row.values():
            cell_text(cell).encode()
        try:
            if found.mapping:
                example = to_example(number, row, found.mapping, "system")
                to_json([example.messages, example.tools]).encode()
        except RowError as error:
            assert error.what and error.fix


class Watched:
    """Counts the answers; a fault is kept with its file, and the next file is tried."""

    def __init__(self):
        self.answers, self.faults, self.slowest = Counter(), 0, (0.0, "")

    def __call__(self, path: Path, number: int) -> "Watched":
        self.path, self.number, self.began = path, number, time.perf_counter()
        signal.alarm(SLOW)
        return self

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace) -> bool:
        signal.alarm(0)
        took = time.perf_counter() - self.began
        self.slowest = max(self.slowest, (took, f"{self.path.name} {self.number}"))
        if kind is None or (isinstance(error, UserError) and _can_be_printed(error)):
            self.answers["read" if kind is None else "refused"] += 1
            return True
        if not isinstance(error, Exception):
            return False
        self.faults += 1
        KEPT.mkdir(parents=True, exist_ok=True)
        kept = KEPT / f"{self.number}.{self.path.name}"
        kept.write_bytes(self.path.read_bytes())
        print(f"FAULT in {kept}: {kind.__name__}: {str(error)[:200]}")
        if self.answers[kind] < 3:
            traceback.print_tb(trace)
        self.answers[kind] += 1
        return True


def _can_be_printed(error: UserError) -> bool:
    try:
        json.dumps(error.to_dict(), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _hangs(*_) -> None:
    raise TimeoutError(f"a file took more than {SLOW} s")


def fuzz(minutes: float, seed: int) -> Watched:
    """Read damaged files until the time is over."""
    signal.signal(signal.SIGALRM, _hangs)
    watched, good, end = Watched(), seeds() + encoded(), time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as folder:
        number = seed * 10**9
        while time.monotonic() < end:
            number += 1
            chance = random.Random(number)
            name, data = good[number % len(good)]
            path = Path(folder) / name
            path.write_bytes(variant(data, chance))
            options = replace(chance.choice(OPTIONS), sheet=None)
            with watched(path, number):
                understand(path, options)
    return watched


def main() -> int:
    """The command line; the exit code is 1 if anything broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))
    watched = fuzz(arguments.minutes, arguments.seed)
    print(dict(watched.answers), "faults:", watched.faults, "slowest:", watched.slowest)
    return 1 if watched.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
