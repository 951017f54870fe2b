"""A held-out file: it is used for every split, overlaps are reported, and it can be removed."""

import numpy as np
import pytest

from trainer_backend.data.store.dataset import list_datasets, open_dataset
from trainer_backend.data.store.held_out import with_held_out
from trainer_backend.data.store.split import held_out_facts, overlap_problem
from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.data.store.versions import apply_fixes, edit_rows
from trainer_backend.errors import UserError


def pairs(first: int, count: int, prompt="prompt", response="response") -> list[dict]:
    return [
        {prompt: f"What is {at} times 3?", response: f"It is {3 * at}, I would say."}
        for at in range(first, first + count)
    ]


@pytest.fixture
def train(home):
    return create_from_rows(home, pairs(1, 30), name="train")


@pytest.fixture
def held(home):
    return create_from_rows(home, pairs(100, 5, "question", "answer"), name="held")


def test_the_file_is_the_held_out_side_of_every_split(home, train, held):
    both = with_held_out(home, train.id, held.id)
    for share, seed in ((0.05, 1), (0.5, 2), (0.0, 3)):
        assert both.split(share, seed) == (list(range(30)), list(range(30, 35)))
    assert both.held_out["count"] == 5 and both.held_out["overlap"] == 0
    assert both.held_out_rows(0.05, 1) == [31, 32, 33, 34, 35]
    assert dict(both.page(30, 1)[0])[31] == {
        "prompt": "What is 100 times 3?",
        "response": "It is 300, I would say.",
    }
    assert [one.messages for one in both.examples(range(30, 35))] == [
        one.messages for one in held.examples()
    ]
    assert both.hash != train.hash and with_held_out(home, train.id, held.id) == both
    assert both.lineage()[-1]["done"] == "5 rows of held are held out."


def test_rows_on_both_sides_are_reported(home, train):
    other = create_from_rows(home, pairs(28, 6), name="held")
    both = with_held_out(home, train.id, other.id)
    problem = both.problems[0]
    assert problem.code == "held_out_overlap" and problem.rows == (28, 29, 30)
    assert problem.what == "3 of 6 held-out rows are also trained on."
    assert both.rows_of(0) == [28, 29, 30] and both.held_out["overlap"] == 3
    fixed = apply_fixes(home, both.id, {"held_out_overlap": problem.switches[0]})
    assert fixed.split(0.1, 1) == (list(range(27)), list(range(27, 33)))
    assert fixed.held_out["overlap"] == 0
    assert "held_out_overlap" not in {one.code for one in fixed.problems}


def test_near_duplicates_on_both_sides_are_reported(home):
    text = "The quick brown fox jumps over the lazy dog while the old cat looks on from its chair"
    rows = pairs(1, 30) + [{"prompt": "Tell me of the fox.", "response": f"{text} today."}]
    train = create_from_rows(home, rows, name="train")
    near = {"prompt": "Tell me of the fox.", "response": f"{text} tonight."}
    held = create_from_rows(home, [near, *pairs(900, 3)], name="held")
    both = with_held_out(home, train.id, held.id)
    assert both.problems[0].rows == (31,) and both.held_out["near"] == 1
    what = "1 of 4 held-out rows are also trained on, 1 of them nearly word for word."
    assert both.problems[0].what == what


def test_it_can_be_replaced_and_removed(home, train, held):
    both = with_held_out(home, train.id, held.id)
    other = create_from_rows(home, pairs(200, 3), name="other")
    replaced = with_held_out(home, both.id, other.id)
    assert replaced.held_out["count"] == 3 and replaced.num_examples == 33
    assert replaced.held_out_rows(0.1, 1) == [31, 32, 33]
    assert with_held_out(home, both.id, None) == train
    assert with_held_out(home, replaced.id, None) == train
    assert with_held_out(home, train.id, None) == train
    edited = edit_rows(home, both.id, drops=[1])
    without = with_held_out(home, edited.id, None)
    assert without.held_out is None and without.num_rows == 29
    assert without.split(0.1, 1) != edited.split(0.1, 1)


def test_a_dropped_held_out_row_leaves_the_others_held_out(home, train, held):
    both = with_held_out(home, train.id, held.id)
    edited = edit_rows(home, both.id, drops=[3, 32])
    assert edited.split(0.1, 1) == (list(range(29)), list(range(29, 33)))
    with pytest.raises(UserError, match="No row of the held-out file"):
        edit_rows(home, both.id, drops=range(31, 36))
    with pytest.raises(UserError, match="No row is left to train on"):
        edit_rows(home, both.id, drops=range(1, 31))


def test_roles_that_differ_are_refused(home, train):
    text = create_from_rows(home, [{"text": "abc"}, {"text": "def"}], name="text")
    more = create_from_rows(
        home, [{"instruction": "a", "input": "b", "output": "c"}], name="alpaca"
    )
    unclear = create_from_rows(home, [{"x": "1", "y": "2"}], name="unclear")
    count = len(list_datasets(home))
    for other, what in (
        (text, "The held-out file has text, the training data has completion and prompt"),
        (more, "input"),
        (unclear, "not decided"),
    ):
        with pytest.raises(UserError, match=what) as caught:
            with_held_out(home, train.id, other.id)
        assert caught.value.where == other.name
    with pytest.raises(UserError, match="not decided") as caught:
        with_held_out(home, unclear.id, train.id)
    assert caught.value.where == "unclear"
    with pytest.raises(UserError):
        with_held_out(home, train.id, "0" * 16)
    assert len(list_datasets(home)) == count


def test_it_is_kept_when_opened_again(home, train, held):
    both = with_held_out(home, train.id, held.id)
    assert open_dataset(home, both.id).split(0.2, 9) == both.split(0.1, 1)


def test_a_column_that_only_some_rows_have(home, train):
    rows = [{"prompt": f"Who is {n}?", "response": f"Number {n}."} for n in range(3)]
    rows[1]["system"] = "Be brief."
    with_system = create_from_rows(home, [*pairs(1, 9), {**rows[1]}], name="train")
    held = create_from_rows(home, [*pairs(50, 2), rows[1], rows[0]], name="held")
    both = with_held_out(home, with_system.id, held.id)
    assert [len(one.messages) for one in both.examples(range(10, 14))] == [2, 2, 3, 2]


def test_overlap_is_counted_by_sides():
    """Rows 1 to 8 are trained on, 9 to 11 held out: 9 is row 1 again, 10 nearly repeats row 4."""
    rows = np.arange(1, 12)
    digests = np.array([10, 10, 11, 12, 13, 14, 15, 16, 10, 17, 18])
    near = np.array([[3, 9, 10], [2, 3, 9]])  # indices; only the second pair is of both sides
    about = {"name": "held", "row": 9}
    facts, both = held_out_facts(about, rows, digests, near)
    assert both.tolist() == [1, 2, 4]
    assert (facts["first"], facts["count"], facts["overlap"], facts["near"]) == (8, 3, 1, 1)
    assert overlap_problem(facts, both, "train").where == "train, rows 1, 2 and 4"
    many = overlap_problem(facts, np.arange(1, 8), "train")
    assert many.where == "train, rows 1, 2, 3, 4, 5 and 2 more" and many.count == 7
    five = overlap_problem(facts, np.arange(1, 6), "train")
    assert five.where == "train, rows 1, 2, 3, 4 and 5"
