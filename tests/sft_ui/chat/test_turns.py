"""Going back in a conversation, what stands under a turn, and conversations over a reload."""

import pytest

from sft_ui.chat.conversation import (
    answer_of,
    before_turn,
    last_answer,
    marked_corrected,
    new_conversation,
    retried,
)
from sft_ui.chat.held_out import HeldOut, scores_in_words
from sft_ui.chat.kept_talks import MOST_LETTERS, MOST_RUNS, talk_of, with_talk
from sft_ui.chat.panes import REPEATS, pane, repeats, speed
from sft_ui.chat.tab import wrong_answer
from trainer_backend.errors import UserError
from trainer_backend.models.loaded.answer_parts import Answer

CALL = {"name": "look_up", "arguments": {"city": "Paris"}}
ASKED = {"system": "Be brief.", "tools": [{"name": "look_up"}], "thinking": "on", "checkpoint": 20}


def said(*texts, **last):
    """A side: question and answer in turns; the last turn has more."""
    roles = ("user", "assistant")
    turns = [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]
    return [*turns[:-1], {**turns[-1], **last}]


def test_the_last_question_is_asked_again_on_both_sides():
    talk = {"base": said("a", "1", "b", "2"), "tuned": said("a", "3", "b", "4", calls=[CALL])}
    before, message = retried(talk)
    assert before == {"base": said("a", "1"), "tuned": said("a", "3")}
    assert (message.text, message.image, message.is_result) == ("b", None, False)
    result = {"role": "tool", "content": "sunny", "name": "look_up"}
    talk["tuned"] += [result, {"role": "assistant", "content": "Sunny."}]
    assert retried(talk)[1].is_result
    with pytest.raises(UserError, match="no answer"):
        retried(new_conversation())


def test_a_message_is_taken_back_to_be_edited_with_all_that_followed():
    talk = {"base": said("a", "1", "b", "2", "a", "3"), "tuned": said("a", "1", "a", "3")}
    cut, message = before_turn(talk, "base", 4)
    assert message.text == "a" and cut["base"] == talk["base"][:4]
    assert cut["tuned"] == talk["tuned"][:2]  # the second “a” there
    cut, _ = before_turn(talk, "tuned", 0)
    assert cut == new_conversation()
    for side, at in (("base", 1), ("base", 9), ("both", 0)):
        with pytest.raises(UserError):
            before_turn(talk, side, at)


@pytest.mark.parametrize(
    "text, is_it",
    [
        ("Hugging Face: " * 12, True),
        ("Once. " + "ha" * 40, True),
        ("1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20", False),
        ("no no no", False),
        ("", False),
    ],
)
def test_endless_repetition_is_seen(text, is_it):
    assert repeats(text) is is_it


def test_a_cut_answer_that_repeats_itself_gets_a_hint():
    assert REPEATS in pane("tuned", said("a", "so " * 40, cut="limit"))
    assert REPEATS not in pane("tuned", said("a", "so " * 40))


def test_under_a_turn_stand_what_can_be_done_and_its_speed():
    shown = pane("tuned", said("a", "1", "b", "2", tokens=42, seconds=4.1, corrected=True))
    acts = [part.split('"')[0] for part in shown.split('data-act="')[1:]]
    assert acts == ["edit", "copy", "correct", "edit", "copy", "retry", "correct"]
    assert "42 tokens · 10 tokens/s" in shown and ">Corrected<" in shown
    assert 'data-act="correct"' not in pane("base", said("a", "1"))
    assert "data-act" not in pane("tuned", said("a", "1"), is_busy=True)
    assert 'aria-busy="true"' in pane("tuned", [], is_busy=True)
    assert speed({"tokens": 1}) == "1 token" and speed({"tokens": 3, "seconds": 1.6}).endswith(
        "1.2 tokens/s"
    )


def test_conversations_are_kept_by_run_without_pictures():
    talk = {"base": [], "tuned": said("a", "1", tokens=2, seconds=0.5, calls=[CALL], asked=ASKED)}
    talk["tuned"][0]["images"] = ["/tmp/a.png"]
    kept = with_talk({}, "run-1", talk)
    again = talk_of(kept, "run-1")
    assert "a.png" not in str(kept) and again["tuned"][0]["lost_images"] == 1
    assert again["tuned"][1] == talk["tuned"][1]
    assert "not kept over a reload" in pane("tuned", again["tuned"])
    assert with_talk(kept, "run-1", new_conversation()) == {}
    long = {"base": said("a", "x" * MOST_LETTERS), "tuned": []}
    assert with_talk({}, "run-1", long) == {}
    for at in range(9):
        kept = with_talk(kept, f"run-{at}", talk)
    assert list(kept) == [f"run-{at}" for at in range(3, 9)] and len(kept) == MOST_RUNS


@pytest.mark.parametrize(
    "found",
    [
        None, [], {"run-1": 3}, {"run-1": {"base": "x", "tuned": [3, {"role": "system"}]}},
        {"run-1": {"tuned": [{"role": "x", "images": ["/etc/passwd"]}]}},
    ],
)  # fmt: skip
def test_what_a_browser_sends_is_not_trusted(found):
    assert talk_of(found, "run-1") == new_conversation()


def test_no_file_comes_back_from_a_browser():
    turn = {"role": "user", "content": 3, "images": ["/etc/passwd"], "tokens": "many", "cut": "x"}
    assert talk_of({"r": {"tuned": [turn]}}, "r")["tuned"] == [{"role": "user", "content": "3"}]


def test_an_answer_is_corrected_with_all_it_was_asked_with():
    talk = {"base": [], "tuned": said("a", "1", "b", "2", asked=ASKED)}
    wrong = wrong_answer(talk, 3, None, "run-1")
    assert [one["content"] for one in wrong.messages] == ["Be brief.", "a", "1", "b"]
    assert wrong.answer == Answer("2") and wrong.tools == ASKED["tools"]
    assert (wrong.checkpoint, wrong.place, wrong.row) == (20, "chat", None)
    row = HeldOut("a", Answer("1!"), row=17)
    assert wrong_answer(talk, 1, row, "run-1").row == 17
    assert wrong_answer(talk, 3, row, "run-1").row is None
    for at, run in ((0, "run-1"), (9, "run-1"), (3, "model:x"), (3, None)):
        with pytest.raises(UserError):
            wrong_answer(talk, at, None, run)


def test_a_corrected_answer_is_marked():
    talk = {"base": said("a", "1"), "tuned": said("a", "1", "b", "1")}
    marked = marked_corrected(talk, "1")
    assert [one.get("corrected") for one in marked["tuned"]] == [None, None, None, True]
    assert marked["base"] == talk["base"] and marked_corrected(talk, "2") == talk
    assert last_answer([]) is None and last_answer(said("a", "1")) == 1
    assert answer_of({"content": "", "calls": [CALL]}).in_words() == 'look_up({"city": "Paris"})'


def test_both_answers_are_scored_against_the_expected_one():
    talk = {"base": said("a", "No idea"), "tuned": said("a", "Paris")}
    assert (
        scores_in_words(Answer("Paris"), talk) == "Exact match: base model 0.00, tuned model 1.00"
    )
    assert scores_in_words(Answer("Paris"), new_conversation()) == ""
