"""Messages sent to both models, and stopping their answers."""

import pytest

from sft_ui.chat.conversation import (
    answered,
    first_turn,
    held_out_turn,
    new_conversation,
    stream_talk,
    with_system,
)
from trainer_backend.data.formats.example import Example
from trainer_backend.errors import UserError

SAMPLING = {"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 8}


def say(studio, talk, text="Capital of France?", run="run-1", system="", checkpoint=-1):
    return stream_talk(studio, talk, text, run, checkpoint, system, **SAMPLING)


def test_both_models_get_the_same_first_message(studio):
    talk = list(say(studio, new_conversation(), system="Be brief."))[-1]
    assert [turn["content"] for turn in talk["base"]] == ["Capital of France?", "Paris"]
    assert talk["base"] == talk["tuned"]
    (run, messages, options), *others = studio.model_process.asked
    assert not others and run == "run-1" and options["which"] == "both"
    for side in ("base", "tuned"):
        assert [message["role"] for message in messages[side]] == ["system", "user"]
    assert options["checkpoint"] is None and options["max_new_tokens"] == 8


def test_later_turns_keep_each_sides_own_history(studio):
    talk = {
        "base": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "wrong"}],
        "tuned": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "right"}],
    }
    list(say(studio, talk, "b", checkpoint=20))
    ((_, histories, options),) = studio.model_process.asked
    assert histories["base"][1]["content"] == "wrong"
    assert histories["tuned"][1]["content"] == "right"
    assert options["which"] == "both" and options["checkpoint"] == 20


def test_a_base_model_alone_answers_on_its_side(studio):
    talk = list(say(studio, new_conversation(), run="model:some/model"))[-1]
    assert talk["base"] and not talk["tuned"]
    assert studio.model_process.asked[0][0] == "some/model"


def test_stopping_closes_the_answer(studio):
    stream = say(studio, new_conversation())
    next(stream), next(stream)
    stream.close()
    assert studio.model_process.closed == 1


def test_a_question_stopped_before_its_answer_is_left_out(studio):
    talk = next(say(studio, new_conversation(), "first"))
    assert answered(talk["base"]) == []
    list(say(studio, talk, "second"))
    messages = studio.model_process.asked[-1][1]
    assert [message["content"] for message in messages["base"]] == ["second"]


@pytest.mark.parametrize(
    "text, run", [("  ", "run-1"), ("", "run-1"), ("hello", ""), ("hello", None)]
)
def test_a_message_and_a_model_are_required(studio, text, run):
    with pytest.raises(UserError):
        next(say(studio, new_conversation(), text, run))


def test_an_empty_system_prompt_is_none():
    assert with_system([], "  ") == [] and with_system([], None) == []


def test_a_held_out_question_comes_with_its_expected_answer(run):
    question, system, answer = held_out_turn(run)
    number = question.removeprefix("Question ")
    assert answer == f"Answer {number}" and system == ""
    held_out = run.dataset().examples(run.split()[1])
    assert question in [example.messages[0]["content"] for example in held_out]


def test_the_first_turn_has_its_system_message():
    roles = ("system", "user", "assistant", "user", "assistant")
    messages = [{"role": role, "content": f"{role}{n}"} for n, role in enumerate(roles)]
    assert first_turn(Example(1, messages, None)) == ("user1", "system0", "assistant2")
    assert first_turn(Example(1, None, "text")) is None
    assert first_turn(Example(1, messages[:2], None)) is None
