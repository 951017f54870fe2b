"""The dialog and the list: what is asked of them by events, refused, and offered."""

import pytest

from sft_ui.corrections.editor import opened, wrong_of
from sft_ui.corrections.kept_list import shown, start_training
from trainer_backend.corrections import Wrong, keep_correction
from trainer_backend.errors import UserError
from trainer_backend.models.loaded.answer_parts import Answer

CALL = {"name": "look_up", "arguments": {"city": "Paris"}}
TOOLS = [{"type": "function", "function": {"name": "look_up"}}]


def event(run, **more):
    messages = [{"role": "user", "content": "Weather?"}]
    return {"run": run.id, "messages": messages, "answer": "Sunny", **more}


def test_an_event_of_another_tab_opens_its_answer(studio, run):
    wrong = wrong_of(studio, event(run, row=3, checkpoint=4, place="blind test", reasoning="Hm."))
    assert (wrong.row, wrong.checkpoint, wrong.place) == (3, 4, "blind test")
    assert wrong.answer == Answer("Sunny", "Hm.")
    _, _, about, text, calls, reasoning = opened(wrong)
    assert "Weather?" in about and text == "Sunny"
    assert calls["visible"] is False and reasoning == {**reasoning, "visible": True, "value": "Hm."}


def test_calls_in_words_are_taken_apart(studio, run):
    words = 'Let me see.\nlook_up({"city": "Paris"})'
    assert wrong_of(studio, event(run, answer=words, tools=TOOLS)).answer == Answer(
        "Let me see.", "", [CALL]
    )
    assert wrong_of(studio, event(run, answer=words)).answer.content == words
    assert opened(wrong_of(studio, event(run, tools=TOOLS)))[4]["visible"] is True


@pytest.mark.parametrize(
    "bad", [{"messages": 3}, {"messages": [{"role": "x"}]}, {"tools": "a"}, {"run": "run-0"}]
)
def test_other_data_is_refused(studio, run, bad):
    with pytest.raises(UserError):
        wrong_of(studio, event(run) | bad)


def test_a_browser_names_no_file(studio, run):
    messages = [{"role": "user", "content": "?", "images": ["/etc/passwd"]}]
    assert "images" not in wrong_of(studio, event(run, messages=messages)).messages[0]


def test_from_five_corrections_on_training_is_offered(studio, run, hostile):
    assert "From 5 on" in shown(studio, run.id)[0] and shown(studio, "")[1]["visible"] is False
    for at in range(5):
        asked = [{"role": "user", "content": f"{hostile} {at}"}]
        keep_correction(studio.home, Wrong(run.id, asked, Answer("no")), Answer(hostile))
        card, offer = shown(studio, run.id)
        assert offer["visible"] is (at == 4)
    assert "Corrections: 5" in card and "learns 5 corrections, each" in card
    assert "<script>" not in card and "<img" not in card
    with pytest.raises(UserError, match="no checkpoint"):  # this run has not trained
        start_training(studio, run.id)
