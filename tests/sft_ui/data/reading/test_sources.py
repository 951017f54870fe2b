"""Typed, pasted and Hub data."""

import os
from types import SimpleNamespace

import pytest

from sft_ui.data.events import read_hub
from sft_ui.data.reading import sources
from trainer_backend.errors import UserError


def test_typed_rows_leave_out_empty_ones():
    grid = [["a", "b"], ["", " "], [None, None], ["c", None]]
    assert sources.typed_rows(grid) == [
        {"prompt": "a", "response": "b"},
        {"prompt": "c", "response": ""},
    ]
    assert sources.typed_rows(None) == []


def test_pasted_cells_are_read_as_a_spreadsheet_copies_them():
    text = 'a\t1\n"two\nlines"\t2\textra\nalone\n'
    assert sources.pasted_cells(text) == [["a", "1"], ["two\nlines", "2"], ["alone", ""]]
    assert sources.pasted_cells(None) == []
    long = "word " * 40_000  # longer than the default limit of Python's csv
    assert sources.pasted_cells(f"a\t{long}") == [["a", long]]


@pytest.mark.parametrize(
    "text, kind",
    [
        ("", "cells"),
        ("What is 2+2?\t4\nWhat is 3+3?\t6", "cells"),
        ("prompt\tresponse\na\tb", "csv"),
        ('"question";"answer"\na;b', "csv"),
        ("a prompt, with a comma\tanswer", "cells"),
        ('[{"prompt": "a", "response": "b"}]', "json"),
        ('\n{"prompt": "a", "response": "b"}\n{"prompt": "c", "response": "d"}', "jsonl"),
        ('{\n  "prompt": ["a"]\n}', "json"),
    ],
)
def test_the_kind_of_pasted_text_is_recognised(text, kind):
    assert sources.pasted_kind(text) == kind


def test_pasted_text_is_kept_letter_for_letter(home):
    text = "prompt,response\r\nä,\u2028\n"
    path = sources.write_pasted(home, text, "csv")
    assert path.read_bytes().decode() == text and path.is_relative_to(home)
    os.utime(path, (1, 1))
    assert sources.write_pasted(home, text, "csv").is_file() and not path.exists()


def test_the_hub_pickers_begin_with_training_data():
    splits = sources.splits_of({"default": {"test": ("a",), "train": ("b",)}, "x": {"v": ()}})
    config, split = sources.config_update({"splits": splits}, "default")
    assert config["visible"] and split["value"] == "train"
    config, split = sources.config_update({"splits": {"x": ["v"]}}, "x")
    assert not config["visible"] and split["value"] == "v"
    assert sources.config_update({}, "gone")[1]["value"] is None


def test_the_revision_that_was_looked_up_is_the_one_that_is_read():
    asked = []
    readings = SimpleNamespace(work=lambda *what: asked.append(what) or "reading")
    chosen = {"config": None, "split": "train", "revision": "abc"}
    tab = SimpleNamespace(readings=readings)
    assert read_hub(tab, " owner/name ", 50, chosen) == "reading"
    work, arguments, name = asked[0]
    assert (work, name) == ("hub_dataset", "owner/name")
    assert arguments == {**chosen, "repo_id": "owner/name", "max_rows": 50}
    with pytest.raises(UserError, match="between 0 and 10,000,000"):
        read_hub(tab, "owner/name", -1, chosen)


def test_a_file_that_cannot_be_read_is_named_where_the_upload_is():
    assert sources.unreadable_names(["/x/a.csv", "/x/B.JSONL", "/x/c.csv.gz"]) == ""
    one = sources.unreadable_names(["/x/photo<b>.png"])
    assert "“photo&lt;b&gt;.png” is not a kind of file" in one and "csv, tsv" in one
    assert "2 of 3 files" in sources.unreadable_names(["a.png", "b.docx", "c.csv"])
