"""Titles above the header, notes below the table, and other tables as offices send them."""

import io

import openpyxl
import pytest
from reading_cases import put, refusal, rows, skipped

from trainer_backend.data.readers.files import open_rows
from trainer_backend.data.readers.options import ReadOptions

HEAD, PAIRS = (
    ["Question", "Answer", "Nr"],
    [[f"How {at}?", f"So {at}.", f"{at}"] for at in range(6)],
)
EXPECTED = [dict(zip(HEAD, one, strict=True)) for one in PAIRS]
BLANK: list[str] = []


def workbook(*lines, merge=None) -> bytes:
    book, out = openpyxl.Workbook(), io.BytesIO()
    for line in lines:
        book.active.append(line)
    if merge:
        book.active.merge_cells(merge)
    book.save(out)
    return out.getvalue()


def delimited(*lines, mark=",") -> str:
    return "".join(mark.join(f'"{cell}"' if mark in cell else cell for cell in line) + "\n"
                   for line in lines)  # fmt: skip


def said(path, **options) -> list[str]:
    reader = open_rows(path, options=ReadOptions(**options))
    list(reader)
    return reader.notes


ABOVE = {
    "one title": ([["FAQ of May 2024"]], 2),
    "a title and a blank row": ([["FAQ"], BLANK], 3),
    "two titles": ([["FAQ"], ["as of May"]], 3),
    "titles and blank rows": ([["FAQ"], BLANK, ["as of May"], BLANK], 5),
    "a title with a date beside it": ([["FAQ report", "2024-05-01"]], 2),
    "a title in the middle": ([["", "Our questions"]], 2),
}


@pytest.mark.parametrize("name", ["a.xlsx", "a.csv", "semicolons.csv", "a.tsv"])
@pytest.mark.parametrize("above", ABOVE)
def test_titles_above_the_header_are_left_out_and_said(tmp_path, above, name):
    titles, number = ABOVE[above]
    lines = [*titles, HEAD, *PAIRS]
    mark = {"semicolons.csv": ";", "a.tsv": "\t"}.get(name, ",")
    content = workbook(*lines) if name.endswith("xlsx") else delimited(*lines, mark=mark)
    path = put(tmp_path, name, content)
    assert rows(path) == EXPECTED
    unit = "row" if name.endswith("xlsx") else "line"
    note = next(note for note in said(path) if "header" in note)
    assert note.startswith(f"The header is {unit} {number}. {unit.capitalize()}") and "“" in note


def test_a_merged_title(tmp_path):
    path = put(tmp_path, "a.xlsx", workbook(["FAQ 2024"], HEAD, *PAIRS, merge="A1:C1"))
    assert rows(path) == EXPECTED
    assert said(path) == ["The header is row 2. Row 1 stands above it and is not read: “FAQ 2024”."]


def test_a_plain_table_has_no_note(tmp_path):
    for name, content in (("a.xlsx", workbook(HEAD, *PAIRS)), ("a.csv", delimited(HEAD, *PAIRS))):
        path = put(tmp_path, name, content)
        assert rows(path) == EXPECTED and said(path) == []


def test_rows_of_a_sheet_keep_their_numbers(tmp_path):
    path = put(tmp_path, "a.xlsx", workbook(["FAQ 2024"], BLANK, HEAD, PAIRS[0], BLANK, *PAIRS[1:]))
    assert [number for number, _ in open_rows(path)] == [4, 6, 7, 8, 9, 10]


def test_notes_below_the_table_are_left_out_and_said(tmp_path):
    lines = [HEAD, *PAIRS, BLANK, ["Source: the help desk"], ["Ask Ann"]]
    for name, content in (("a.xlsx", workbook(*lines)), ("a.csv", delimited(*lines))):
        path = put(tmp_path, name, content)
        assert rows(path) == EXPECTED
        assert said(path)[-1].endswith(
            "s 9 to 10 stand below the table and are not read: “Source: the help desk”."
        )
    padded = put(tmp_path, "b.csv", delimited(HEAD, *PAIRS, BLANK, ["Source", "", ""]))
    assert rows(padded) == EXPECTED and "“Source”" in said(padded)[-1]


def test_a_row_with_one_cell_inside_the_table_stays(tmp_path):
    lines = [HEAD, PAIRS[0], BLANK, ["only a question"], *PAIRS[1:]]
    read = rows(put(tmp_path, "a.xlsx", workbook(*lines)))
    assert read[1] == {"Question": "only a question", "Answer": "", "Nr": ""} and len(read) == 7


@pytest.mark.parametrize(
    "first, second",
    [(["text"], ["hello", "world"]), (["prompt"], ["How are you", "fine"])],
)
def test_an_unclear_header_is_offered(tmp_path, first, second):
    lines = [first, second, ["Hi there", "good day"], ["What now", "no idea"]]
    for name, content in (("a.xlsx", workbook(*lines)), ("a.csv", delimited(*lines))):
        error = refusal(put(tmp_path, name, content))
        assert "the header has 1" in error.what
        assert error.offer == {"header_row": 2, "skip_damaged": True}
        assert rows(tmp_path / name, header_row=2)[0] == dict(zip(second, lines[2], strict=True))


def test_a_column_of_sentences_has_no_title(tmp_path):
    lines = ["text", "Hello, world", "Good, day", "What, now"]
    path = put(tmp_path, "a.csv", "\n".join(lines) + "\n")
    assert refusal(path).where == "a.csv, line 2"
    quoted = put(tmp_path, "b.csv", "text\n" + "".join(f'"{one}"\n' for one in lines[1:]))
    assert [row["text"] for row in rows(quoted)] == lines[1:]


def test_the_header_can_be_chosen(tmp_path):
    lines = [["a", "b"], ["prompt", "response"], ["x", "y"], ["z", "w"]]
    for name, content in (("a.xlsx", workbook(*lines)), ("a.csv", delimited(*lines))):
        path = put(tmp_path, name, content)
        assert rows(path, header_row=2)[0] == {"prompt": "x", "response": "y"}
        assert "header is" in said(path, header_row=2)[0]
        error = refusal(path, header_row=40)
        assert "40 holds no column names" in error.what and "1, 2, 3, 4" in error.fix
    assert "1 or more" in refusal(path, header_row=0).what


def test_a_header_of_two_rows(tmp_path):
    lines = [["Question", "", "Answer", ""], ["text", "lang", "text", "lang"],
             ["Hi", "en", "Hello", "en"], ["Hallo", "de", "Guten Tag", "de"]]  # fmt: skip
    path = put(tmp_path, "a.xlsx", workbook(*lines))
    assert list(rows(path)[0]) == ["Question text", "Question lang", "Answer text", "Answer lang"]
    assert said(path) == ["The header is rows 1 and 2 together."]


def test_a_repeated_name_offers_the_next_row(tmp_path):
    lines = [["A", "A", "B"], HEAD, *PAIRS]
    error = refusal(put(tmp_path, "a.xlsx", workbook(*lines)))
    assert "same name" in error.what


def test_names_of_rows_and_cells_at_the_end(tmp_path):
    named = put(tmp_path, "a.csv", "prompt,response\n1,a,b\n2,c,d\n3,e,f\n")
    assert rows(named)[0] == {"column 1": "1", "prompt": "a", "response": "b"}
    assert "column 1" in said(named)[0]
    trailing = put(tmp_path, "b.csv", "prompt,response\na,b,\nc,d,\n")
    assert rows(trailing) == [{"prompt": "a", "response": "b"}, {"prompt": "c", "response": "d"}]
    index = put(tmp_path, "c.csv", ",prompt,response\n0,a,b\n1,c,d\n")
    assert rows(index)[0] == {"column 1": "0", "prompt": "a", "response": "b"}


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_excels_line_for_the_delimiter(tmp_path, mark):
    content = f"sep={mark}\r\n" + delimited(["FAQ of May"], [], HEAD, *PAIRS, mark=mark)
    path = put(tmp_path, "a.csv", "\ufeff" + content)
    assert rows(path) == EXPECTED


def test_decimal_commas_stay_in_their_cell(tmp_path):
    path = put(tmp_path, "a.csv", "prompt;response;score\na;b;3,14\nc, d;e;2,72\n")
    assert [row["score"] for row in rows(path)] == ["3,14", "2,72"]


def test_other_ways_of_quoting(tmp_path):
    escaped = put(tmp_path, "a.csv", 'prompt,response\n"say \\"hi\\", now","ok"\n"c","d"\n')
    assert rows(escaped)[0] == {"prompt": 'say "hi", now', "response": "ok"}
    assert "backslash" in said(escaped)[0]
    single = put(tmp_path, "b.csv", "'prompt','response'\n'a, b','it''s'\n'c','d'\n")
    assert rows(single)[0] == {"prompt": "a, b", "response": "it's"}
    assert "Single quotes" in said(single)[0]
    plain = put(tmp_path, "c.csv", "prompt,response\n'tis,a\n'twas,b\n")
    assert [row["prompt"] for row in rows(plain)] == ["'tis", "'twas"]
    path = put(tmp_path, "d.csv", 'prompt,response\n"C:\\dir\\",x\ny,z\n')
    assert rows(path)[0]["prompt"] == "C:\\dir\\"


def test_a_damaged_row_keeps_the_numbers_of_the_others(tmp_path):
    path = put(tmp_path, "a.csv", "prompt,response\na,b\nc\nd,e\n")
    reader = open_rows(path, options=ReadOptions(skip_damaged=True))
    assert [number for number, _ in reader] == [1, 3]
    assert skipped(path)[1] == [(3, "The row has 1 column, the header has 2.")]


def test_an_empty_first_sheet_offers_the_next(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["About this file"])
    data = book.create_sheet("Data 2024")
    for line in (HEAD, *PAIRS):
        data.append(line)
    book.save(tmp_path / "a.xlsx")
    error = refusal(tmp_path / "a.xlsx")
    assert error.offer == {"sheet": "Data 2024"} and "“Data 2024”" in error.fix
    assert rows(tmp_path / "a.xlsx", **error.offer) == EXPECTED
