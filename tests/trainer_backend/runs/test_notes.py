"""Notes and tags of a run: limits, cleaning, damaged files."""

import pytest

from trainer_backend.errors import UserError
from trainer_backend.runs.notes import MAX_NOTE, MAX_TAG, MAX_TAGS, Notes, read_notes, write_notes


def test_notes_are_kept_and_shown_with_the_run(run, call):
    assert run.notes() == Notes() and run.summary()["tags"] == []
    kept = write_notes(run.dir, " First\nline \0", "good, Good ,  two  words,,")
    assert kept == Notes("First\nline", ("good", "two words")) == run.notes()
    assert run.summary()["notes"] == "First\nline" and run.summary()["tags"] == [
        "good",
        "two words",
    ]
    shown = call("show", run.id)[1]
    assert "        tags  good, two words\n" in shown and "       notes  First\n" in shown
    assert "              line\n" in shown
    write_notes(run.dir, "", [])
    assert not (run.dir / "notes.json").exists()


@pytest.mark.parametrize(
    "text, tags, what",
    [
        ("x" * (MAX_NOTE + 1), "", "characters"),
        ("", "x" * (MAX_TAG + 1), "too long"),
        ("", [str(n) for n in range(MAX_TAGS + 1)], "13 tags"),
    ],
)
def test_limits_are_said(run, text, tags, what):
    with pytest.raises(UserError, match=what):
        write_notes(run.dir, text, tags)
    assert run.notes() == Notes()


@pytest.mark.parametrize("damaged", ["{", "[]", '{"text": 3, "tags": "x"}', '{"tags": [1]}'])
def test_a_damaged_file_counts_as_none(run, damaged):
    (run.dir / "notes.json").write_text(damaged)
    assert read_notes(run.dir) == Notes()
