"""Editing rows: unsaved changes, and what a browser may send back."""

import pytest

from sft_ui.data.events import as_before
from sft_ui.data.rows.card import Changes, changes_bar, read_changes, row_card
from trainer_backend.data.store.uploads import create_from_rows


def test_changes_add_up_and_can_be_taken_back():
    changes = Changes("d").edited(3, {"a": "1"}).edited(3, {"b": "2"}).dropped(5)
    assert changes.edits == {3: {"a": "1", "b": "2"}} and changes.drops == (5,)
    assert changes.dropped(3).edits == {} and changes.dropped(3).drops == (3, 5)
    assert not changes.restored(3).restored(5)
    assert read_changes(changes.to_dict(), "d") == changes


@pytest.mark.parametrize(
    "kept",
    [
        None,
        [],
        "x",
        {"dataset_id": "other", "edits": [[1, {"a": "b"}]], "drops": [2]},
        {"dataset_id": "d"},
        {"dataset_id": "d", "edits": 3, "drops": []},
        {"dataset_id": "d", "edits": [[True, {}], ["1", {}], [0, {}], [1]], "drops": ["2", -1]},
    ],
)
def test_invalid_changes_and_those_of_other_data_are_ignored(kept):
    assert read_changes(kept, "d") == Changes("d")


def test_the_card_shows_the_changed_text_and_the_way_back(dataset):
    cells = dict(dataset.page(0, 1)[0])[1]
    plain = row_card(dataset, 1, cells, Changes(dataset.id))
    assert "Answer 0" in plain and "data-drop" in plain and "Undo change" not in plain
    changed = row_card(dataset, 1, cells, Changes(dataset.id).edited(1, {"response": "New"}))
    assert ">\nNew</textarea>" in changed and "Undo change" in changed
    assert "Restore this row" in row_card(dataset, 1, cells, Changes(dataset.id).dropped(1))


def test_unsaved_changes_are_counted():
    assert changes_bar(Changes("d")) == ""
    assert "1 row edited" in changes_bar(Changes("d").edited(1, {"a": "b"}))
    assert "2 rows dropped, not saved" in changes_bar(Changes("d").dropped(1).dropped(2))


def test_line_endings_of_the_row_are_kept(studio, home):
    rows = [{"prompt": "a\r\nb", "response": "c\nd"}, {"prompt": "e", "response": "f"}]
    dataset = create_from_rows(home, rows, name="Line ends")
    kept = as_before(studio, dataset.id, 1, {"prompt": "a\nb\nc", "response": "c\nx"})
    assert kept == {"prompt": "a\r\nb\r\nc", "response": "c\nx"}
