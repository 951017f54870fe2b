"""The preview reads only the first rows."""

import pytest

from trainer_backend.data.reading.preview import preview_file
from trainer_backend.errors import UserError


def test_the_first_rows(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("question;answer\n" + "a;007\n" * 1_000 + "broken;row;here\n")
    preview = preview_file(path, 3)
    assert preview.rows == [(at, {"question": "a", "answer": "007"}) for at in (1, 2, 3)]
    assert (preview.kind, preview.sheets) == ("csv", [])


def test_bad_first_row(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("{broken")
    with pytest.raises(UserError):
        preview_file(path)
