"""Arrow, workbooks, archives, several files, documents and images, read with nothing changed."""

import gzip
import io
import json
import zipfile
from datetime import date, datetime, time

import openpyxl
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from PIL import Image
from reading_cases import detected, put, refusal, rows, skipped

from trainer_backend.data.formats.example import to_example
from trainer_backend.data.images import ImageBytes
from trainer_backend.data.json_values import to_json
from trainer_backend.data.readers.document_reader import PIECE
from trainer_backend.data.readers.files import open_rows, read_rows
from trainer_backend.data.readers.options import ReadOptions
from trainer_backend.data.reading.preview import preview_file

DATA = [{"prompt": f"é {at}", "response": "NA", "n": at} for at in range(200)]
CHAT = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]


def write_arrow(path, table: pa.Table, kind: str = "file", **options) -> None:
    make = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with make(path, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as out:
        out.write_table(table, max_chunksize=70)


@pytest.mark.parametrize("kind", ["file", "stream"])
@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_arrow_files_and_streams(tmp_path, kind, compression):
    path = tmp_path / "a.arrow"
    write_arrow(path, pa.Table.from_pylist(DATA), kind, compression=compression)
    seen = []
    assert [row for _, row in read_rows(path, on_progress=lambda *at: seen.append(at))] == DATA
    assert seen[-1][0] == seen[-1][1] > 0
    packed = put(tmp_path, "a.arrow.gz", gzip.compress(path.read_bytes()))
    assert rows(packed) == DATA


def test_feather_and_the_types_other_programs_write(tmp_path):
    feather.write_feather(pa.Table.from_pylist(DATA), str(tmp_path / "a.feather"))
    assert rows(tmp_path / "a.feather") == DATA
    turn = pa.struct([("role", pa.string_view()), ("content", pa.string_view())])
    views = pa.array([[{"role": "user", "content": "a" * 40}]], pa.list_(turn))
    table = pa.table({"messages": views, "kind": pa.array(["x"]).dictionary_encode(),
                      "when": pa.array([0], pa.timestamp("us"))})  # fmt: skip
    write_arrow(tmp_path / "v.arrow", table)
    assert rows(tmp_path / "v.arrow") == [
        {"messages": [{"role": "user", "content": "a" * 40}], "kind": "x",
         "when": "1970-01-01 00:00:00.000000"}
    ]  # fmt: skip
    assert "version 1" in refusal(put(tmp_path, "old.feather", b"FEA1" + bytes(40))).what


def test_parquet_in_gzip_and_chat_in_parquet(tmp_path):
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(CHAT), out)
    assert rows(put(tmp_path, "a.parquet.gz", gzip.compress(out.getvalue()))) == CHAT


def workbook(path, *sheets: tuple[str, list[list]]) -> openpyxl.Workbook:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, lines in sheets:
        page = book.create_sheet(title)
        for line in lines:
            page.append(line)
    book.save(path)
    return book


def test_a_workbook_reads_as_its_cells_show(tmp_path):
    path = tmp_path / "a.xlsx"
    book = openpyxl.Workbook()
    page = book.active
    page.append(["value", "seen"])
    cases = [
        ("007", None, "007"), ("=text", None, "=text"), (" line\nbreak ", None, " line\nbreak "),
        (7, None, "7"), (7.0, None, "7"), (0.1, None, "0.1"), (1234567.891, None, "1234567.891"),
        (7, "000", "007"), (0.5, "0%", "50%"), (0.125, "0.0%", "12.5%"), (2.5, "0", "3"),
        (1234.5, "#,##0.00", "1,234.50"), (3, "0.00", "3.00"), (True, None, "TRUE"),
        (-7, "0", "-7"),
        (datetime(2020, 1, 31), None, "2020-01-31"), (date(2020, 1, 31), None, "2020-01-31"),
        (datetime(2020, 1, 31, 12, 30), None, "2020-01-31 12:30:00"), 
        (time(9, 5), None, "09:05:00"),
        ("NA", None, "NA"), ("a_x000D_b", None, "a\rb"), (12345678901234, None, "12345678901234"),
    ]  # fmt: skip
    for row, (value, shown_as, _) in enumerate(cases, start=2):
        cell = page.cell(row, 1, value)
        cell.data_type = "s" if isinstance(value, str) else cell.data_type
        page.cell(row, 2, "x")
        if shown_as:
            cell.number_format = shown_as
    book.save(path)
    assert [row["value"] for row in rows(path)] == [seen for _, _, seen in cases]


def test_sheets_are_listed_and_chosen(tmp_path):
    path = tmp_path / "a.xlsx"
    table = [[], ["prompt", "response"], ["a", None], [], ["c", "d", None]]
    workbook(path, ("First", table), ("Other", [["q", "a"], ["x", "y"]]), ("Empty", []))
    preview = preview_file(path)
    assert (preview.kind, preview.sheets) == ("xlsx", ["First", "Other", "Empty"])
    assert open_rows(path).notes == ["Read from the sheet “First”; not “Other”, “Empty”."]
    assert rows(path) == [{"prompt": "a", "response": ""}, {"prompt": "c", "response": "d"}]
    assert rows(path, sheet="Other") == [{"q": "x", "a": "y"}]
    assert "no sheet “Gone”" in refusal(path, sheet="Gone").what
    assert "header but no rows" in refusal(path, sheet="Empty").what
    assert rows(put(tmp_path, "b.xlsx.gz", gzip.compress(path.read_bytes())), sheet="Other")


def test_a_formula_gives_the_value_saved_with_it(tmp_path):
    path = tmp_path / "a.xlsx"
    workbook(path, ("S", [["a", "b"], ["x", "=1+1"]]))
    inside = zipfile.ZipFile(path)
    with zipfile.ZipFile(tmp_path / "b.xlsx", "w") as out:
        for entry in inside.infolist():
            data = inside.read(entry)
            out.writestr(entry.filename, data.replace(b"<v></v>", b"<v>2</v>").replace(
                b"<v />", b"<v>2</v>"))  # fmt: skip
    assert rows(tmp_path / "b.xlsx") == [{"a": "x", "b": "2"}]


def test_a_ragged_sheet_row_is_named(tmp_path):
    path = tmp_path / "a.xlsx"
    workbook(path, ("S", [["a", "b"], ["1", "2", "3"], ["4", "5"]]))
    assert refusal(path).where == "a.xlsx, sheet “S”, row 2"
    kept, damaged = skipped(path)
    assert kept == [{"a": "4", "b": "5"}] and damaged[0][0] == 2


def archive(path, **files: bytes):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in files.items():
            out.writestr(name, data)
    return path


def test_an_archive_is_the_data_files_in_it(tmp_path):
    sheet = io.BytesIO()
    workbook(sheet, ("S", [["prompt", "response"], ["x", "y"]]))
    out = io.BytesIO()
    pq.write_table(pa.table({"prompt": ["p"], "response": ["q"]}), out)
    path = archive(tmp_path / "a.zip", **{
        "data/b.csv": b"prompt;response\nc;d\n", "data/a.jsonl": b'{"prompt":"a","response":"b"}\n',
        "c.jsonl.gz": gzip.compress(b'{"prompt":"e","response":"f"}\n'), "README.md": b"# x",
        "d.xlsx": sheet.getvalue(), "e.parquet": out.getvalue(), "__MACOSX/._a.csv": b"x",
    })  # fmt: skip
    reader = open_rows(path)
    assert [row["prompt"] for _, row in reader] == ["e", "x", "a", "c", "p"]
    assert reader.notes[0] == "5 data files of the archive are read as one."
    assert "1 other files in the archive are not used." in reader.notes
    assert "data/b.csv: Columns are separated by a semicolon." in reader.notes
    bad = archive(tmp_path / "b.zip", **{"x.csv": b"a,b\n1,2\n3\n"})
    assert refusal(bad).where == "b.zip: x.csv, line 3"
    assert "holds no data file" in refusal(archive(tmp_path / "c.zip", **{"a.exe": b"x"})).what


def test_several_files_read_as_one_and_differences_are_noted(tmp_path):
    a = put(tmp_path, "a.csv", "prompt,response\n1,x\n")
    b = put(tmp_path, "b.jsonl", '{"prompt":"2","response":"y","id":7}\n')
    c = put(tmp_path, "c.csv", "prompt,response\n3,z\n4,z\nragged\n")
    reader = open_rows([a, b])
    assert [(number, row["prompt"]) for number, row in reader] == [(1, "1"), (2, "2")]
    assert reader.notes == [
        "The files have different columns: a.csv has only shared columns; b.jsonl also has “id”."
    ]
    reader = open_rows([a, c], options=ReadOptions(skip_damaged=True))
    assert [number for number, _ in reader] == [1, 2, 3]
    assert reader.damage.rows == [(4, "c.csv: The row has 1 column, the header has 2.")]
    assert reader.files[1].kind == "csv" and "different" not in " ".join(reader.notes)
    assert "0 files were given" in refusal_of([])


def refusal_of(paths) -> str:
    with pytest.raises(Exception) as caught:
        open_rows(paths)
    return caught.value.what


def test_documents_are_cut_at_paragraphs(tmp_path):
    paragraphs = [f"Paragraph {at} " + "word " * 150 for at in range(30)]
    text = "\n\n".join(paragraphs)
    path = put(tmp_path, "book.txt", text)
    pieces = rows(path)
    assert "\n\n".join(piece["text"] for piece in pieces) == text
    assert all(len(piece["text"]) <= PIECE for piece in pieces)
    assert {piece["file"] for piece in pieces} == {"book.txt"}
    assert detected(path).mapping.format == "text" and detected(path).sure
    assert "pieces of up to 4,000 characters" in open_rows(path).notes[0]


def test_markdown_is_cut_at_headings_and_keeps_code_together(tmp_path):
    code = "```\n" + "\n\n".join(f"line {at}" for at in range(40)) + "\n```"
    text = "# One\n\n" + "text " * 500 + "\n\n# Two\n\n" + code + "\n"
    pieces = [row["text"] for row in rows(put(tmp_path, "a.md", text))]
    assert pieces[0].startswith("# One") and pieces[1].startswith("# Two") and code in pieces[1]
    long = "sentence one. " * 1_000
    cut = [row["text"] for row in rows(put(tmp_path, "b.txt", long))]
    assert "".join(cut) == long and all(piece.endswith(". ") for piece in cut)
    assert rows(put(tmp_path, "c.txt", '{"text":"a"}\n')) == [{"text": "a"}]


def encoded(colour: str = "red", format: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (2, 2), colour).save(out, format)
    return out.getvalue()


def example(path):
    ((number, row),) = read_rows(path)
    mapping = detected(path).mapping
    json.loads(to_json(row))
    return mapping, to_example(number, row, mapping)


def test_images_in_parquet(tmp_path):
    row = {
        "image": {"bytes": encoded(), "path": "a.png"},
        "question": "What?",
        "answer": "Red.",
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    mapping, found = example(tmp_path / "a.parquet")
    assert mapping.roles == {"prompt": "question", "completion": "answer", "images": "image"}
    assert found.images == [ImageBytes(encoded(), ".png", "a.png")]
    row["image"]["bytes"] = b"RIFF0000WAVEfmt "
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "b.parquet")
    assert "binary data" in refusal(tmp_path / "b.parquet").what


@pytest.mark.parametrize("name", ["img/a.jpg", "./img/a.jpg", "a.jpg"])
def test_images_in_an_archive_named_by_a_table(tmp_path, name):
    inside = "img/a.jpg" if "img" in name else "a.jpg"
    path = archive(tmp_path / "a.zip", **{
        "metadata.csv": f"file_name,prompt,response\n{name},What?,Red.\n".encode(),
        inside: encoded(format="JPEG"),
    })  # fmt: skip
    mapping, found = example(path)
    assert mapping.roles["images"] == "file_name"
    assert found.images[0].suffix == ".jpg" and found.images[0].name == name
    assert found.images[0].stored_name.startswith("images/")


def test_images_missing_from_the_upload_are_mentioned(tmp_path):
    path = put(tmp_path, "a.csv", "image,prompt,response\nhttp://x/y.png,a,b\n/etc/a.png,a,b\n")
    assert "The images that “image” names are not in the upload." in detected(path).sentence


@pytest.mark.parametrize(
    ("declared", "used"),
    [
        ('<!ENTITY a0 "aaaaaaaaaa">' + "".join(
            f'<!ENTITY a{at} "{f"&a{at - 1};" * 10}">' for at in range(1, 10)), "&a9;"),
        ('<!ENTITY e SYSTEM "file:///etc/hostname">', "&e;"),
    ],
)  # fmt: skip
def test_entities_in_a_workbook_are_never_expanded_without_end_or_fetched(tmp_path, declared, used):
    workbook(tmp_path / "a.xlsx", ("S", [["a", "b"], ["x", "y"]]))
    with zipfile.ZipFile(tmp_path / "b.xlsx", "w") as out:
        good = zipfile.ZipFile(tmp_path / "a.xlsx")
        for entry in good.namelist():
            data = good.read(entry).replace(b"<t>x</t>", f"<t>{used}</t>".encode())
            front = f"<!DOCTYPE x [{declared}]>" if "sheet" in entry else ""
            out.writestr(entry, front.encode() + data)
    assert "cannot be read" in refusal(tmp_path / "b.xlsx").what
