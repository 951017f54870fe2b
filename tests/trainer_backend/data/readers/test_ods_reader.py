"""OpenDocument spreadsheets: texts, numbers, repeated cells, titles, sheets, damage."""

import io
import zipfile

import pytest
from reading_cases import put, refusal, rows

from trainer_backend.data.readers.files import open_rows

NAMES = " ".join(
    f'xmlns:{short}="urn:oasis:names:tc:opendocument:xmlns:{short}:1.0"'
    for short in ("office", "table", "text")
)
ROW, END = "<table:table-row", "</table:table-row>"
FILLER = f'{ROW} table:number-rows-repeated="1048500"><table:table-cell/>{END}'


def cell(text, kind="string", **more):
    values = "".join(f' office:{key.replace("_", "-")}="{value}"' for key, value in more.items())
    return (f'<table:table-cell office:value-type="{kind}"{values}><text:p>{text}</text:p>'
            "</table:table-cell>")  # fmt: skip


def row(*cells, times=1):
    inner = "".join(one if one.startswith("<") else cell(one) for one in cells)
    return f'<table:table-row table:number-rows-repeated="{times}">{inner}</table:table-row>'


def spreadsheet(*sheets, content=None, mimetype=True):
    tables = "".join(
        f'<table:table table:name="{name}">{"".join(lines)}{FILLER}</table:table>'
        for name, lines in sheets
    )
    body = f"<office:body><office:spreadsheet>{tables}</office:spreadsheet></office:body>"
    xml = f"<office:document-content {NAMES}>{body}</office:document-content>"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as parts:
        if mimetype:
            parts.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        parts.writestr("content.xml", content or f'<?xml version="1.0" encoding="UTF-8"?>{xml}')
    return out.getvalue()


HEAD = row("Question", "Answer")
PAIRS = [row("Open?", "Daily."), row("Where?", "Here.")]
EXPECTED = [{"Question": "Open?", "Answer": "Daily."}, {"Question": "Where?", "Answer": "Here."}]


@pytest.mark.parametrize("mimetype", [True, False])
def test_a_sheet_is_read(tmp_path, mimetype):
    path = put(tmp_path, "a.ods", spreadsheet(("S", [HEAD, *PAIRS]), mimetype=mimetype))
    assert rows(path) == EXPECTED and open_rows(path).notes == []


def test_titles_blank_rows_and_sheets(tmp_path):
    merged = '<table:table-row><table:table-cell table:number-columns-spanned="2"><text:p>FAQ of '
    merged += "May</text:p></table:table-cell><table:covered-table-cell/></table:table-row>"
    data = spreadsheet(("One", [merged, row("", times=3), HEAD, *PAIRS]), ("Two", [HEAD, PAIRS[0]]))
    reader = open_rows(put(tmp_path, "a.ods", data))
    assert [number for number, _ in reader] == [6, 7]
    assert (
        "The header is row 5. Row 1 stands above it and is not read: “FAQ of May”." in reader.notes
    )
    assert rows(tmp_path / "a.ods", sheet="Two") == EXPECTED[:1]
    assert "no sheet “Three”" in refusal(tmp_path / "a.ods", sheet="Three").what


def test_values_and_texts(tmp_path):
    comment = "<office:annotation><text:p>a comment</text:p></office:annotation>"
    odd = ('<table:table-cell office:value-type="string">' + comment
           + "<text:p>a<text:s text:c=\"2\"/>b<text:tab/>c<text:line-break/>d "
           "<text:span>e</text:span> f</text:p><text:p>g</text:p></table:table-cell>")  # fmt: skip
    twice = (
        '<table:table-cell table:number-columns-repeated="2"><text:p>x</text:p></table:table-cell>'
    )
    values = [
        cell("3,14", "float", value="3.14"), cell("7", "float", value="7"), odd,
        cell("1. Mai", "date", date_value="2024-05-01T10:00:00"),
        cell("50 %", "percentage", value="0.5"),
        cell("WAHR", "boolean", boolean_value="true"), twice,
    ]  # fmt: skip
    head = row(*"abcdefgh")
    path = put(tmp_path, "a.ods", spreadsheet(("S", [head, row(*values), row(*values, times=2)])))
    read = rows(path)
    assert len(read) == 3 and list(read[2].values()) == [
        "3.14", "7", "a  b\tc\nd e f\ng", "2024-05-01 10:00:00", "50 %", "TRUE", "x", "x",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "data, what",
    [
        (spreadsheet(content="<a><b></a>"), "cannot be read"),
        (spreadsheet(content='<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'), "declares entities"),
        (spreadsheet(("S", [ROW + ' table:number-rows-repeated="x"/>'])), "cannot be read"),
        (spreadsheet(), "no sheet with cells"),
        (b"hello", "not an OpenDocument file"),
    ],
)  # fmt: skip
def test_damage_is_named(tmp_path, data, what):
    assert what in refusal(put(tmp_path, "a.ods", data)).what


def test_a_workbook_of_another_kind_is_misnamed(tmp_path):
    error = refusal(put(tmp_path, "a.xlsx", spreadsheet(("S", [HEAD]))))
    assert "OpenDocument" in error.what and ".ods" in error.fix
