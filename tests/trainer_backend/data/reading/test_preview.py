"""The preview answers from the first rows alone."""

import pytest

from trainer_backend.data.reading.preview import preview_file
from trainer_backend.errors import UserError


def test_first_rows_and_their_meaning(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("question;answer\n" + "a;007\n" * 1_000 + "broken;row;here\n")
    preview = preview_file(path, 3)
    assert preview.rows == [(at, {"question": "a", "answer": "007"}) for at in (1, 2, 3)]
    assert preview.detection.sure and "semicolon" in preview.notes[0]


def test_bad_first_row(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("{broken")
    with pytest.raises(UserError):
        preview_file(path)
