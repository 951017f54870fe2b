"""What is asked: held-out rows of both runs, kept answers first, half of the pairs swapped."""

import base64
import io

import pytest
from blind_tests import add_evaluation, give_checkpoint
from PIL import Image

from trainer_backend.comparison.blind.questions import Wanted, new_test, question_of
from trainer_backend.data.formats.example import Example
from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.errors import UserError
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import create_run


def held_out_rows(run) -> set[int]:
    _, held = run.split()
    return {one.row for one in run.dataset().examples(held)}


def test_the_sides_are_shown_left_and_right_equally_often(trained):
    for count in range(1, 9):
        orders = [one.swapped for one in new_test(trained, wanted=Wanted(count)).questions]
        assert abs(2 * sum(orders) - count) <= 1
    many = [new_test(trained, wanted=Wanted(2), seed=seed) for seed in range(200)]
    first = sum(one.questions[0].swapped for one in many)
    assert 70 <= first <= 130  # a fair coin leaves this range once in 60,000 times


def test_the_seed_decides_rows_and_order(trained):
    one, again, other = (new_test(trained, wanted=Wanted(5), seed=seed) for seed in (1, 1, 2))
    assert one.questions == again.questions != other.questions


def test_rows_are_held_out_and_asked_without_their_answer(trained):
    test = new_test(trained, wanted=Wanted(8))
    rows = {one.row for one in test.questions}
    assert len(rows) == 8 and rows <= held_out_rows(trained)
    for one in test.questions:
        assert [message["role"] for message in one.messages] == ["user"]
        assert one.expected == one.messages[0]["content"].removeprefix("Say ") + "!"
        assert not one.is_answered


def test_answers_of_a_kept_evaluation_need_no_model(trained):
    add_evaluation(trained, 3, word="tuned")
    test = new_test(trained, wanted=Wanted(3))
    for one in test.questions:
        assert one.answers["first"].content == f"tuned {one.row}"
        assert one.answers["second"].content == f"base {one.row}"
    more = new_test(trained, wanted=Wanted(5))
    assert [one.is_answered for one in more.questions] == [True, True, True, False, False]


def test_an_evaluation_of_another_checkpoint_is_not_used(trained):
    add_evaluation(trained, 3, step=2)
    assert not any(one.is_answered for one in new_test(trained, wanted=Wanted(3)).questions)


def test_rows_that_the_other_run_was_trained_on_are_left_out_and_said(trained, other):
    both = held_out_rows(trained) & held_out_rows(other)
    assert 0 < len(both) < len(held_out_rows(trained))
    test = new_test(trained, other, Wanted(40))
    assert {one.row for one in test.questions} == both
    missing = len(held_out_rows(trained)) - len(both)
    assert f"{missing} held-out rows are left out: the other run was trained on them." in test.notes
    assert [side.run for side in test.sides] == [trained.id, other.id]


def test_kept_answers_of_two_runs_meet_by_row(trained, home, dataset):
    twin = give_checkpoint(create_run(home, trained.recipe(), dataset, name="Twin"))
    add_evaluation(trained, 4, word="mine")
    add_evaluation(twin, 3, word="theirs")
    test = new_test(trained, twin, Wanted(3))
    for one in test.questions:
        assert one.answers["first"].content == f"mine {one.row}"
        assert one.answers["second"].content == f"theirs {one.row}"


def test_deleted_data_of_the_other_run_is_said(trained, home):
    data = create_from_rows(
        home, [{"prompt": f"p{n}", "response": "r"} for n in range(20)], name="s"
    )
    strange = give_checkpoint(create_run(home, Recipe(max_steps=4), data))
    for file in data.dir.iterdir():
        file.unlink()
    test = new_test(trained, strange, Wanted(2))
    assert "it may have been trained on these rows" in test.notes[0] and len(test.questions) == 2


def test_own_prompts_are_asked_as_each_run_was_trained(trained):
    test = new_test(trained, wanted=Wanted(prompts=["One?", "", " Two? ", "One?"]))
    assert [one.messages[0]["content"] for one in test.questions] == ["One?", "Two?"]
    assert test.dataset == "" and "1 of 3 prompts are left out" in test.notes[0]


@pytest.mark.parametrize("change", ["no rows", "no checkpoint", "itself"])
def test_what_cannot_be_tested_is_said(trained, change, home, dataset):
    if change == "no rows":
        bare = give_checkpoint(create_run(home, Recipe(max_steps=4, eval_fraction=0), dataset))
        given, what = (bare, None), "no held-out row"
    elif change == "no checkpoint":
        given, what = (create_run(home, Recipe(max_steps=4), dataset), None), "no checkpoint"
    else:
        given, what = (trained, trained), "against itself"
    with pytest.raises(UserError) as caught:
        new_test(*given)
    assert what in caught.value.what


def test_too_few_rows_are_said(trained):
    held = len(held_out_rows(trained))
    test = new_test(trained, wanted=Wanted(100))
    assert len(test.questions) == held
    assert test.notes == [f"Only {held:,} held-out rows have a question to ask; 100 were wanted."]


def test_the_last_trained_answer_is_the_question():
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": {"a": 1}}}
    messages = [
        {"role": "user", "content": "<image>What?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "<image>", "tool_call_id": "1"},
        {"role": "assistant", "content": "Not learned", "train": False},
    ]
    example = Example(7, messages, None, ["tool"], ["images/a.png", "images/b.png"])
    found = question_of(example)
    assert found.row == 7 and found.messages == messages[:1] and found.tools == ["tool"]
    assert found.expected == 'look({"a": 1})' and found.images == ["images/a.png"]
    assert question_of(Example(1, None, "plain text")) is None


def test_kept_answers_have_the_pictures_of_their_rows(home):
    png = "data:image/png;base64," + base64.b64encode(png_bytes()).decode()
    part = {"type": "image_url", "image_url": {"url": png}}
    rows = [
        {
            "messages": [
                {"role": "user", "content": [part, {"type": "text", "text": f"What is {n}?"}]},
                {"role": "assistant", "content": f"{n}"},
            ]
        }
        for n in range(20)
    ]
    data = create_from_rows(home, rows, name="pictures")
    run = give_checkpoint(create_run(home, Recipe(max_steps=4), data))
    asked = [one.images for one in new_test(run, wanted=Wanted(2)).questions]
    add_evaluation(run, 2)
    kept = new_test(run, wanted=Wanted(2)).questions
    assert all(one.is_answered for one in kept)
    assert [one.images for one in kept] == asked and asked[0][0].startswith("images/")


def png_bytes() -> bytes:
    """A picture of one pixel."""
    out = io.BytesIO()
    Image.new("RGB", (1, 1)).save(out, "PNG")
    return out.getvalue()
