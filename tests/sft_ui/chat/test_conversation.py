"""Messages sent to both models, and stopping their answers."""

import pytest

from sft_ui.chat.conversation import (
    Message,
    Question,
    answered,
    as_asked,
    calls_open,
    marked_stopped,
    new_conversation,
    stream_talk,
    with_system,
)
from sft_ui.chat.held_out import first_turn, held_out_turn
from sft_ui.chat.panes import pane
from trainer_backend.data.formats.example import Example
from trainer_backend.errors import UserError

SAMPLING = {"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 8}


TOOLS = [{"type": "function", "function": {"name": "look_up"}}]
CALL = {"name": "look_up", "arguments": {"city": "Paris"}}


def say(studio, talk, text="Capital of France?", run="run-1", system="", checkpoint=-1, **more):
    question = Question(run, checkpoint, system, {"tools": TOOLS}, SAMPLING)
    return stream_talk(studio, talk, Message(text, **more), question)


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


def test_tools_and_pictures_are_sent_with_the_question(studio):
    talk = list(say(studio, new_conversation(), image="a.png"))[-1]
    ((_, messages, options),) = studio.model_process.asked
    assert options["asked"] == {"tools": TOOLS}
    assert messages["tuned"][-1]["images"] == ["a.png"]
    assert 'src="gradio_api/file=a.png"' in pane("tuned", talk["tuned"])


def called(side: str) -> dict:
    return {"which": side, "text": "", "content": "", "reasoning": "Hm.", "calls": [CALL]}


def test_a_call_is_shown_as_one_and_its_result_goes_back_to_the_tool(studio):
    studio.model_process.answers = [called("tuned"), {"which": "base", "text": "Paris"}]
    talk = list(say(studio, new_conversation()))[-1]
    assert calls_open(talk) and not calls_open(new_conversation())
    shown = pane("tuned", talk["tuned"])
    assert "<b>look_up</b>" in shown and "&#34;city&#34;: &#34;Paris&#34;" in shown
    assert '<details class="thought"><summary>Thought</summary>Hm.</details>' in shown
    list(say(studio, talk, "sunny", is_result=True))
    messages = studio.model_process.asked[-1][1]
    assert messages["base"][-1]["role"] == "user"  # it has called nothing
    asked, result = messages["tuned"][-2:]
    assert result == {"role": "tool", "content": "sunny", "name": "look_up",
                      "tool_call_id": asked["tool_calls"][0]["id"]}  # fmt: skip
    assert asked["tool_calls"][0]["function"] == CALL and asked["reasoning_content"] == "Hm."


def test_an_open_thought_is_unfolded_until_the_answer_begins():
    thinks = [{"role": "assistant", "content": "", "reasoning": "Hm."}]
    assert '<details class="thought" open>' in pane("base", thinks)
    assert answered([{"role": "user", "content": "a"}, *thinks]) != []
    assert as_asked(thinks)[0]["reasoning_content"] == "Hm."


def test_a_held_out_question_comes_with_its_expected_answer(run):
    row = held_out_turn(run)
    number = row.question.removeprefix("Question ")
    assert row.expected.content == f"Answer {number}" and row.system == "" and row.tools == []
    held_out = run.dataset().examples(run.split()[1])
    assert row.question in [example.messages[0]["content"] for example in held_out]


def test_the_first_turn_has_all_that_its_row_was_trained_with():
    roles = ("system", "user", "assistant", "user", "assistant")
    messages = [{"role": role, "content": f"{role}{n}"} for n, role in enumerate(roles)]
    row = first_turn(Example(1, messages, None, TOOLS))
    assert row is not None and (row.question, row.system) == ("user1", "system0")
    assert row.expected.content == "assistant2" and row.tools == TOOLS
    assert first_turn(Example(1, None, "text")) is None
    assert first_turn(Example(1, messages[:2], None)) is None


def test_a_first_turn_may_be_a_call_and_may_have_one_picture():
    answer = {"role": "assistant", "content": "",
              "tool_calls": [{"type": "function", "function": CALL}]}  # fmt: skip
    asks = {"role": "user", "content": "<image>\nWhat is this?"}
    row = first_turn(Example(1, [asks, answer], None, TOOLS, ["images/a.png"]), None, "Be brief.")
    assert row is not None and row.expected.calls == [CALL]
    assert row.question == "What is this?" and row.system == "Be brief."
    two = Example(1, [{**asks, "content": "<image><image>"}, answer], None, None, ["a", "b"])
    assert first_turn(two) is None


def test_an_answer_that_is_not_complete_is_marked(studio):
    studio.model_process.answers = [
        {"which": side, "text": "Pa", "cut": side == "base"} for side in ("base", "tuned")
    ]
    talk = list(say(studio, new_conversation()))[-1]
    assert talk["base"][-1]["cut"] == "limit" and "cut" not in talk["tuned"][-1]
    assert "Cut off at" in pane("base", talk["base"])
    halted = {side: marked_stopped(turns) for side, turns in talk.items()}
    assert halted["base"] == talk["base"] and marked_stopped([]) == []
    assert "You stopped this answer" in pane("tuned", halted["tuned"])
