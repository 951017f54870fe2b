"""Learn marks: which messages are learned, and which marks are refused or said."""

import pytest

from trainer_backend.data.formats.conversations.marks import (
    DETAILS,
    TRAIN_MARKS,
    UNSURE_MARKS,
    is_trained,
    learned,
)
from trainer_backend.data.formats.conversations.notes import keep_quiet
from trainer_backend.data.json_values import NumberText
from trainer_backend.errors import RowError


@pytest.mark.parametrize("key", [key for key in TRAIN_MARKS if key != "masked"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [(False, False), (0, False), (0.0, False), ("0", False), ("False", False), (True, True),
     (1, True), ("true", True), (NumberText("1.00"), True), (None, True), ("", True)],
)  # fmt: skip
def test_a_mark_says_whether_a_message_is_learned(key, value, expected):
    assert is_trained({"role": "assistant", "content": "a", key: value}) is expected


@pytest.mark.parametrize(("value", "expected"), [(True, False), (0, True), (None, True)])
def test_masked_says_the_opposite(value, expected):
    assert is_trained({"role": "assistant", "content": "a", "masked": value}) is expected


@pytest.mark.parametrize("value", [0.5, 2, -1, "half", [], {}, [1]])
@pytest.mark.parametrize("key", ["weight", "loss_weight", "loss_scale", "loss"])
def test_a_message_cannot_be_learned_in_part(key, value):
    if value == [] or value == {}:
        value = [value]
    with pytest.raises(RowError, match=f"“{key}” other than true, false, 0 or 1"):
        is_trained({"role": "assistant", "content": "a", key: value})


def test_two_marks_that_contradict_each_other_are_refused():
    with pytest.raises(RowError, match="“weight” that says to learn it and “train”"):
        is_trained({"train": False, "weight": 1})
    assert not is_trained({"train": False, "weight": 0})


@pytest.mark.parametrize("key", UNSURE_MARKS)
def test_a_mark_that_could_mean_both_is_refused_by_its_name(key):
    with pytest.raises(RowError, match=f"“{key}”, which could mean"):
        learned({"role": "assistant", "content": "a", key: 1}, "assistant", keep_quiet)


@pytest.mark.parametrize("key", DETAILS)
def test_marks_of_parts_of_a_text_are_refused_by_their_name(key):
    parts = [{"begin_offset": 0, "end_offset": 1, "train": False}]
    with pytest.raises(RowError, match=f"“{key}”, which marks parts"):
        learned({"role": "assistant", "content": "a", key: parts}, "assistant", keep_quiet)


@pytest.mark.parametrize(
    ("mark", "notes", "expected"), [(1, 1, True), (0.5, 1, True), (0, 0, False), (None, 0, True)]
)
def test_a_mark_on_what_the_user_says_is_said(mark, notes, expected):
    said = []
    assert learned({"role": "user", "weight": mark}, "user", said.append) is expected
    assert [note.code for note in said] == ["learn_marks"] * notes
