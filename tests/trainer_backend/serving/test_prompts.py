"""Prompts from texts and files, and their answers as CSV and JSONL."""

import csv
import io
import json
from pathlib import Path

import pytest

from trainer_backend.errors import UserError
from trainer_backend.serving.prompts import (
    Answered,
    Prompt,
    answers_as,
    check_ending,
    prompts_in_lines,
    read_prompts,
)


def test_a_prompt_a_line():
    found = prompts_in_lines("One\n\n  \nTwo, “quoted”\n")
    assert found.prompts == [Prompt(1, "One"), Prompt(4, "Two, “quoted”")] and found.notes == []
    with pytest.raises(UserError, match="no prompts"):
        prompts_in_lines(" \n")


@pytest.mark.parametrize(
    "name, text, rows",
    [
        ("a.txt", "One\r\n\r\nZwei é\r\n", [(1, "One", ""), (3, "Zwei é", "")]),
        ("a.csv", "id,question,system\n7,One,Kind\n8,Two,\n", [(1, "One", "Kind"), (2, "Two", "")]),
        ("a.jsonl", '{"prompt": "One", "b": 1}\n{"prompt": "2"}\n', [(1, "One", ""), (2, "2", "")]),
        ("one.csv", "anything\nOne\n", [(1, "One", "")]),
    ],
)  # fmt: skip
def test_the_prompts_of_a_file(tmp_path, name, text, rows):
    path = tmp_path / name
    path.write_bytes(text.encode())
    found = read_prompts(path).prompts
    assert [(one.row, one.text, one.system) for one in found] == rows


def test_what_is_left_out_is_said(tmp_path):
    path = tmp_path / "many.csv"
    path.write_text("prompt,b\n" + "".join(f"Say {n},x\n" for n in range(1003)) + ",x\n")
    found = read_prompts(path)
    assert len(found.prompts) == 1000 and found.prompts[-1].row == 1000
    assert found.notes[-2:] == [
        "Only the first 1,000 of 1,003 are asked.", "1 empty row is left out.",
    ]  # fmt: skip


def test_a_file_without_prompts_is_refused_with_its_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,price\n1,2\n")
    with pytest.raises(UserError) as caught:
        read_prompts(path)
    assert "“id”, “price”" in caught.value.fix


def test_answers_as_files():
    said = [
        Answered(Prompt(1, "One")).with_part({"which": "tuned", "text": 'A, "b"\nc'}),
        Answered(Prompt(3, "Zwei é")).with_part({"which": "tuned", "error": "Too long."}),
    ]
    rows = [json.loads(line) for line in answers_as(".jsonl", said, ["tuned"]).splitlines()]
    assert rows == [
        {"row": 1, "prompt": "One", "tuned": 'A, "b"\nc', "note": ""},
        {"row": 3, "prompt": "Zwei é", "tuned": "", "note": "tuned model: Too long."},
    ]
    table = list(csv.DictReader(io.StringIO(answers_as(".csv", said, ["tuned"]), newline="")))
    assert [one["tuned"] for one in table] == ['A, "b"\nc', ""]
    assert "note" not in answers_as(".csv", said[:1], ["tuned"])
    with pytest.raises(UserError):
        check_ending(Path("a.xlsx"))


def test_a_system_text_of_the_row_wins():
    assert Prompt(1, "One").messages(" ") == [{"role": "user", "content": "One"}]
    own = Prompt(1, "One", "Be kind").messages("Be brief")
    assert own[0] == {"role": "system", "content": "Be kind"}
