"""What an error offers is printed as options of the command line, and they work."""

import json

from trainer_backend.cli.offers import offer_lines
from trainer_backend.errors import UserError

ROWS = "问题,答案\n怎样才能学好做饭,多看，多练\n这台电脑能修吗,可以，大约需要三天时间\n"


def test_an_encoding_is_offered_by_name_with_a_line_of_the_file(call, tmp_path):
    path = tmp_path / "old.csv"
    path.write_bytes(ROWS.encode("gb18030"))
    code, _, err = call("check", path)
    lines = [line.strip() for line in err.splitlines() if line.strip().startswith("try:")]
    assert code == 2 and len(lines) > 1
    assert lines[0] == "try:   --encoding gb18030  (as Chinese (GB18030): “问题,答案”)"
    code, out, _ = call("check", path, *lines[0].split()[1:3], "--json")
    assert code == 0 and json.loads(out)["rows"] == 2


def test_a_row_with_the_column_names_is_offered(call, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("prompt\nquestion,answer\nHi there,good day\nWhat now,no idea\n")
    code, _, err = call("check", path)
    assert code == 2 and "try:   --header-row 2  (the row with the column names)" in err
    assert "try:   --skip-damaged" in err
    code, out, _ = call("check", path, "--header-row", 2, "--json")
    report = json.loads(out)
    assert code == 0 and report["rows"] == 2 and report["columns"] == ["question", "answer"]
    assert "Line 1 stands above it and is not read: “prompt”." in report["notes"][0]


def test_names_with_spaces_are_quoted():
    error = UserError("a", "b", "c", offer={"sheet": "Data 2024"})
    assert offer_lines(error) == ['  try:   --sheet "Data 2024"']
    assert offer_lines(UserError("a", "b", "c", offer={"retry": {"max_steps": 3}})) == []
