"""The two pickers beside the button: what they show, and when the button may be pressed."""

import json

import pytest

from sft_ui.data.reading.choice import NOT_READY, READY, choice_preview, column_choice
from trainer_backend.data.store import create_from_rows


@pytest.fixture
def tickets(home):
    rows = [
        {"Ticket #": f"T-{n}", "Customer msg.": f"Where is parcel {n}, please?",
         "Our reply (final)": f"It comes on day {n}, sorry."} for n in range(1, 9)
    ]  # fmt: skip
    return create_from_rows(home, rows, name="Tickets")


@pytest.fixture
def numbers(home):
    rows = [{"Ticket #": f"T-{n}", "created": f"2024-03-0{n}"} for n in range(1, 9)]
    return create_from_rows(home, rows, name="Numbers")


def test_a_guess_is_selected_and_shown_with_the_first_rows(tickets):
    html = column_choice(tickets)
    assert '<option value="1" selected>Customer msg.' in html
    assert '<option value="2" selected>Our reply (final)' in html
    shown, button = choice_preview(tickets, None, "")
    assert "Where is parcel 1" in shown and "It comes on day 1" in shown
    assert button["interactive"] and button["value"] == READY and button["variant"] == "primary"


def test_without_a_guess_the_button_waits(numbers):
    html = column_choice(numbers)
    assert html.count('<option value="" selected>Choose a column') == 2
    shown, button = choice_preview(numbers, None, "")
    assert "Nothing is chosen yet" in shown
    assert not button["interactive"] and button["value"] == NOT_READY


def test_half_a_choice_says_what_is_missing(tickets):
    shown, button = choice_preview(tickets, {"prompt": "Customer msg."}, "")
    assert "No column is chosen for the completion" in shown and not button["interactive"]
    shown, button = choice_preview(tickets, {"prompt": "gone", "completion": "Ticket #"}, "")
    assert "no column" in shown and not button["interactive"]


def test_the_system_prompt_shows_at_once(tickets):
    assert "Be brief." in choice_preview(tickets, None, "Be brief.")[0]


def test_a_conversation_takes_the_place_of_prompt_and_answer(home):
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    chat = create_from_rows(home, [{"messages": turns}] * 3, name="Chat")
    html = column_choice(chat)
    assert html.index('data-role="messages"') < html.index("<details") < html.index('"prompt"')
    assert choice_preview(chat, None, "")[1]["variant"] == "secondary", "it is in use already"


def test_a_conversation_and_its_chosen_answer_go_together(home):
    turns = [{"role": "user", "content": "Hi"}]
    rows = [{"chat": turns, "chosen": f"Hello {n}", "rejected": "No"} for n in range(4)]
    asked = create_from_rows(home, rows, name="Pairs of answers")
    shown, button = choice_preview(asked, {"messages": "chat", "completion": "chosen"}, "")
    assert "Hello 0" in shown and button["interactive"]


def test_odd_names_of_columns_reach_the_browser_whole(home):
    rows = [{'a"<b>': f"x {n}", "": f"y {n}"} for n in range(3)]
    data = create_from_rows(home, rows, name="Odd")
    html = column_choice(data, {"prompt": "", "completion": 'a"<b>'})
    assert "<b>" not in html and '<option value="1" selected>' in html
    assert json.dumps(data.columns).replace('"', "&#34;").replace("<b>", "&lt;b&gt;") in html
