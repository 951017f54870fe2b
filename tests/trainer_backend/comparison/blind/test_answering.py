"""Questions are answered ahead, by the model as it was trained, and kept once."""

import pytest
from blind_tests import Answers
from played_runs import wait_until

from trainer_backend.comparison.blind.answering import (
    Answering,
    asked_messages,
    keep_answers,
    read_part,
    work_for,
)
from trainer_backend.comparison.blind.blind_test import Question, Side
from trainer_backend.comparison.blind.keeping import keep, open_test
from trainer_backend.comparison.blind.questions import Wanted, new_test
from trainer_backend.errors import UserError
from trainer_backend.models.loaded.answer_parts import Answer


@pytest.fixture
def fresh(trained):
    made = new_test(trained, wanted=Wanted(6), seed=1)
    keep(trained, made)
    return made


def answered(run, test) -> list[int]:
    questions = open_test(run, test.id).questions
    return [at for at, one in enumerate(questions) if one.is_answered]


def test_the_question_shown_and_two_more_are_answered(trained, fresh):
    client = Answers()
    answering = Answering(trained, fresh.id, client)
    words = list(answering.wait_for(1))
    assert 1 in answered(trained, fresh) and set(words) <= {"", "Loading the model: half"}
    wait_until(lambda: answered(trained, fresh) == [1, 2, 3], 10)
    run, messages, options = client.asked[0]
    assert run == trained.id and options["which"] == "both" and options["checkpoint"] == 4
    assert set(messages) == {"base", "tuned"} and options["temperature"] == 0.0
    assert options["max_new_tokens"] == 128  # the rows' own answers are short
    found = open_test(trained, fresh.id).questions[1].answers
    assert found["first"].content == f"{trained.id} tuned"
    assert found["second"].content == f"{trained.id} base"


def test_two_runs_take_turns_with_few_changes_of_the_model(trained, other):
    made = new_test(trained, other, Wanted(6), seed=1)
    keep(trained, made)
    client = Answers()
    answering = Answering(trained, made.id, client)
    for at in range(len(made.questions)):
        list(answering.wait_for(at))
    order = [run for run, _, _ in client.asked]
    changes = sum(one != another for one, another in zip(order, order[1:], strict=False))
    assert len(order) == 2 * len(made.questions) and changes <= 4
    assert order[:2] == [trained.id, other.id]  # the first question is answered soon


def test_an_answer_that_was_seen_is_never_replaced(trained, fresh):
    keep_answers(trained, fresh.id, 0, {"first": Answer("seen"), "second": Answer("seen too")})
    after = keep_answers(trained, fresh.id, 0, {"first": Answer("late"), "second": Answer("late")})
    assert after.questions[0].answers["first"].content == "seen"


def test_an_error_is_told_to_who_waits_and_can_be_tried_again(trained, fresh):
    client = Answers()
    client.error = UserError("Too long.", "Chat", "Shorten it.")
    answering = Answering(trained, fresh.id, client)
    with pytest.raises(UserError, match="Too long"):
        list(answering.wait_for(0))
    client.error = None
    list(answering.wait_for(0))
    assert 0 in answered(trained, fresh)


def test_stopping_closes_the_stream(trained, fresh):
    client = Answers(seconds=0.05)
    answering = Answering(trained, fresh.id, client)
    answering.begin(0)
    wait_until(lambda: client.asked, 10)
    answering.stop()
    wait_until(lambda: client.closed == len(client.asked), 10)
    assert len(answered(trained, fresh)) <= 1


def test_same_answers_and_left_out_questions_are_not_asked_again(trained, fresh):
    same = {"first": Answer("x"), "second": Answer("x")}
    keep_answers(trained, fresh.id, 0, same)
    work = work_for(open_test(trained, fresh.id), 0)
    assert [one.question for one in work] == [1, 2, 3]


def test_a_side_is_asked_with_its_system_text_and_pictures(tmp_path):
    side = Side("run-1", "A", system="Be brief.")
    question = Question([{"role": "user", "content": "<image>What?"}], images=["images/a.png"])
    system, user = asked_messages(question, side, tmp_path)
    assert system == {"role": "system", "content": "Be brief."}
    assert user["images"] == [str(tmp_path / "images/a.png")]
    assert "images" not in question.messages[0]
    own = Question([{"role": "system", "content": "Own."}, {"role": "user", "content": "Hi"}])
    assert [one["content"] for one in asked_messages(own, side, None)] == ["Own.", "Hi"]


def test_a_call_that_is_no_json_is_kept_as_text():
    part = {"text": "f({NaN})", "content": "", "calls": [{"name": "f", "arguments": {"x": float("nan")}}]}  # fmt: skip  # noqa: E501
    assert read_part(part) == Answer("f({NaN})")
