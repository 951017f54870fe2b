"""Wide, long, packed and binary files: cases 58 to 63 of the acceptance list."""

import gzip
import io
import json
import os
import pickle
import stat
import time
import zipfile

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as locked
import pytest
from reading_cases import put, read_limited, refusal, rows

LINE = b'{"a":"' + b"x" * 10**6 + b'"}\n'
ROWS = b'{"prompt":"a","response":"b"}\n'


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.parquet", "a.arrow", "a.xlsx",
                                  "a.txt"])  # fmt: skip
def test_case_58_nothing_in_it(tmp_path, name):
    assert refusal(put(tmp_path, name, b"")).what == "The file is empty."


WIDE = 10**6
KEYS = ",".join(f'"{at}":1' for at in range(WIDE))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", ",".join(map(str, range(WIDE))) + "\n"),
        ("a.jsonl", "{" + KEYS + "}\n"),
        ("a.json", "[{" + KEYS + "}]"),
        ("b.json", "{" + KEYS + "}"),
    ],
)
def test_case_59_a_million_columns(tmp_path, name, content):
    said = read_limited(put(tmp_path, name, content), 1_500)
    assert "refused" in said and ("columns" in said or "keys" in said)
    assert int(said.split("MB ")[1].split()[0]) < 200
    assert float(said.split("seconds ")[1]) < 4  # of computing, however busy the machine is


def test_case_59_wide_binary_files(tmp_path):
    table = pa.table({f"c{at}": pa.array([1], pa.int8()) for at in range(1_001)})
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_stream(tmp_path / "a.arrow", table.schema) as out:
        out.write_table(table)
    book = openpyxl.Workbook()
    book.active.append(list(range(1_001)))
    book.save(tmp_path / "a.xlsx")
    for name in ("a.parquet", "a.arrow", "a.xlsx"):
        assert "1,001 columns" in refusal(tmp_path / name).what


def test_case_60_a_line_of_100_mb(tmp_path):
    for name, opening in (("a.jsonl", '{"a":"'), ("a.csv", "a,b\n1,2"), ("a.json", '[{"a":"')):
        path = tmp_path / name
        with path.open("w") as file:
            file.write(opening)
            for _ in range(100):
                file.write("x" * 10**6)
        said = read_limited(path, 1_500)
        assert "refused" in said, said
        assert int(said.split("MB ")[1].split()[0]) < 500


def one_text(count: int) -> pa.Table:
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), ["x" * 10**6])
    return pa.table({"a": repeated})


def write_bomb(path) -> None:
    """A small file that unpacks to about 2 GB."""
    kind = path.name.partition(".")[2]
    if kind == "parquet":
        pq.write_table(one_text(2_000), path, compression="zstd")
    elif kind == "arrow":
        with pa.ipc.new_file(path, one_text(1).schema) as out:
            out.write_table(one_text(2_000))
    elif kind == "zstd.arrow":
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        zeros = pa.record_batch({"a": pa.array(memoryview(bytes(35 * 10**7)).cast("q"))})
        with pa.ipc.new_stream(path, zeros.schema, options=options) as out:
            out.write_batch(zeros)
    elif kind == "jsonl.gz":
        with gzip.open(path, "wb", 1) as out:
            for _ in range(350):
                out.write(LINE)
    elif kind == "parquet.gz":
        with gzip.open(path, "wb", 1) as out:
            out.write(b"PAR1" + bytes(35 * 10**7))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
            with out.open("xl/worksheets/a.jsonl" if kind == "xlsx" else "a.jsonl", "w") as entry:
                for _ in range(600):
                    entry.write(LINE)


@pytest.mark.parametrize(
    "name",
    ["a.parquet", "a.arrow", "a.zstd.arrow", "a.jsonl.gz", "a.parquet.gz", "a.zip", "a.xlsx"],
)
def test_case_61_bombs_stop_under_a_memory_limit(tmp_path, name):
    path = tmp_path / name
    write_bomb(path)
    assert path.stat().st_size < 5 * 10**6
    said = read_limited(path, 2_000)
    assert "refused" in said and "unpacks to more than" in said, said
    assert int(said.split("MB ")[1].split()[0]) < 500
    assert float(said.split("seconds ")[1]) < 5


@pytest.mark.parametrize("shape", ["list", "struct", "messages", "map", "large", "bytes", "view"])
def test_case_61_a_text_that_is_named_again_and_again_is_counted_first(tmp_path, shape):
    text, most = "x" * 10**6, 400
    columns = {
        "list": lambda: pa.array([[text]] * most),
        "struct": lambda: pa.array([{"a": text}] * most),
        "messages": lambda: pa.array([[{"role": "user", "content": text}]] * most),
        "map": lambda: pa.array([[("k", text)]] * most, pa.map_(pa.string(), pa.string())),
        "large": lambda: pa.array([text] * most, pa.large_string()),
        "bytes": lambda: pa.array([text.encode()] * most),
        "view": lambda: pa.array([text] * most).cast(pa.string_view()),
    }
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": columns[shape]()}), path, compression="zstd")
    began = time.process_time()
    assert "unpacks to more than" in refusal(path).what
    assert time.process_time() - began < 0.5


def test_columns_of_every_shape_are_still_read(tmp_path):
    shapes = {
        "map": pa.array([[("k", "v")]] * 9, pa.map_(pa.string(), pa.string())),
        "pair": pa.array([["k", "v"]] * 9, pa.list_(pa.string(), 2)),
        "nothing": pa.array([None, {"a": "x"}, {"a": None}] * 3),
        "date": pa.array([1] * 9, pa.timestamp("s")),
    }
    pq.write_table(pa.table(shapes), tmp_path / "a.parquet", compression="zstd")
    read = rows(tmp_path / "a.parquet")
    assert len(read) == 9 and read[1]["pair"] == ["k", "v"] and read[1]["nothing"] == {"a": "x"}


def test_case_61_a_zip_that_lies_about_its_size(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", ROWS * 1_000)
    data = out.getvalue().replace((len(ROWS) * 1_000).to_bytes(4, "little"), b"\x40\0\0\0")
    assert refusal(put(tmp_path, "a.zip", data)).fix


def packed(path, *entries: tuple[str | zipfile.ZipInfo, bytes]):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def special(name: str, kind: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (kind | 0o644) << 16
    return entry


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("../a.jsonl", "leads out"),
        ("x/../../a.jsonl", "leads out"),
        ("/etc/a.jsonl", "absolute"),
        ("C:/a.jsonl", "absolute"),
        ("x\\a.jsonl", "backslash"),
        ("a\x1b[31m.jsonl", "unprintable"),
        (special("link.jsonl", stat.S_IFLNK), "link"),
        (special("device.jsonl", stat.S_IFCHR), "device"),
        (special("pipe.jsonl", stat.S_IFIFO), "device"),
        ("inner.zip", "inside the archive"),
        ("A.jsonl", "some systems confuse"),
        ("n" * 2_000 + ".jsonl", "no usable name"),
    ],
)
def test_case_62_hostile_entries_are_named(tmp_path, entry, what):
    path = packed(tmp_path / "x.zip", ("a.jsonl", ROWS), (entry, ROWS))
    error = refusal(path)
    assert what in error.what and "entry “" in error.where
    assert not list(tmp_path.rglob("*.jsonl")), "nothing is unpacked"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_case_62_the_same_name_twice(tmp_path):
    error = refusal(packed(tmp_path / "x.zip", ("a.jsonl", ROWS), ("a.jsonl", ROWS)))
    assert "twice" in error.what and "“a.jsonl”" in error.where


def test_case_62_too_many_entries(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for at in range(100_000 // 4):
            archive.writestr(f"{at}.jsonl", b"")
    assert "25,000 entries" in refusal(path).what
    end = bytearray(path.read_bytes())
    end[-10:-6] = (2**32 - 2).to_bytes(4, "little")  # the size of the list of entries
    end[-12:-10] = end[-14:-12] = (9).to_bytes(2, "little")
    assert refusal(put(tmp_path, "y.zip", bytes(end))).fix


def test_case_62_encrypted_and_damaged_entries(tmp_path):
    path = packed(tmp_path / "x.zip", ("a.jsonl", ROWS * 100))
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    assert "encrypted" in refusal(put(tmp_path, "y.zip", bytes(data))).what
    data = bytearray(path.read_bytes())
    data[45:50] = b"\xff" * 5
    assert "damaged" in refusal(put(tmp_path, "z.zip", bytes(data))).what
    assert "cannot be read" in refusal(put(tmp_path, "w.zip", path.read_bytes()[:60])).what


class Strange(pa.ExtensionType):
    """A type that only some program knows."""

    def __init__(self):
        super().__init__(pa.string(), "strange.type")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type, serialized):
        return cls()


def test_case_63_extension_types_are_refused(tmp_path):
    strange = pa.ExtensionArray.from_storage(Strange(), pa.array(["a"]))
    table = pa.table({"prompt": strange, "response": ["b"]})
    nested = pa.table({"x": pa.ListArray.from_arrays([0, 1], strange)})
    for at, one in enumerate((table, nested)):
        pq.write_table(one, tmp_path / f"{at}.parquet")
        with pa.ipc.new_file(tmp_path / f"{at}.arrow", one.schema) as out:
            out.write_table(one)
        for name in (f"{at}.parquet", f"{at}.arrow"):
            assert "strange.type" in refusal(tmp_path / name).what


def test_case_63_cut_and_garbled_binary_files(tmp_path):
    table = pa.table({"prompt": ["a" * 1_000] * 50, "response": ["b"] * 50})
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as out:
        out.write_table(table)
    with pa.ipc.new_stream(tmp_path / "b.arrow", table.schema) as out:
        out.write_table(table)
    book = openpyxl.Workbook()
    book.active.append(["prompt", "response"])
    book.save(tmp_path / "a.xlsx")
    for name in ("a.parquet", "a.arrow", "b.arrow", "a.xlsx"):
        data = (tmp_path / name).read_bytes()
        for cut in (data[: len(data) // 2], data[:40], data[:20] + os.urandom(len(data) - 20)):
            error = refusal(put(tmp_path, f"cut.{name}", cut))
            assert "cannot be read" in error.what or "cannot be read" in error.what


def test_case_63_encrypted_parquet(tmp_path):
    config = locked.EncryptionConfiguration(
        footer_key="k", column_keys={"k": ["a"]}, plaintext_footer=True
    )
    factory = locked.CryptoFactory(lambda _: _Keys())
    keys = factory.file_encryption_properties(locked.KmsConnectionConfig(), config)
    with pq.ParquetWriter(tmp_path / "a.parquet", pa.schema([("a", pa.string())]),
                          encryption_properties=keys) as out:  # fmt: skip
        out.write_table(pa.table({"a": ["secret"]}))
    assert "encrypted" in refusal(tmp_path / "a.parquet").fix
    assert "encrypted" in refusal(put(tmp_path, "b.parquet", b"PARE" + bytes(50))).what


class _Keys(locked.KmsClient):
    """Keys that protect nothing."""

    def __init__(self):
        super().__init__()

    def wrap_key(self, key_bytes, master_key_identifier):
        return key_bytes.hex()

    def unwrap_key(self, wrapped_key, master_key_identifier):
        return bytes.fromhex(wrapped_key)


def test_case_63_content_under_another_name(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["prompt"])
    book.save(tmp_path / "a.xlsx")
    data = (tmp_path / "a.xlsx").read_bytes()
    error = refusal(put(tmp_path, "a.csv", data))
    assert "spreadsheet" in error.what and ".xlsx" in error.fix
    assert "zip archive" in refusal(packed(tmp_path / "a.jsonl", ("a.csv", b"a"))).what
    assert "not a zip" in refusal(put(tmp_path, "a.zip", ROWS)).what
    assert "pickle" in refusal(put(tmp_path, "a.json", pickle.dumps(json.loads(ROWS)))).what
    assert rows(packed(tmp_path / "good.zip", ("a.jsonl", ROWS))) == [json.loads(ROWS)]
