"""Conversations as bubbles, and marked hits."""

import pytest

from sft_ui.data.row_events import show_page, shown_row, view_of
from sft_ui.data.rows.card import Changes
from sft_ui.data.rows.chats import marked
from trainer_backend.data.store import create_from_rows

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}


@pytest.fixture
def chats(home):
    rows = [
        {
            "id": f"c{n}",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": f"Weather on day {n}?"},
                {"role": "assistant", "content": "", "tool_calls": [CALL]},
                {"role": "tool", "content": "sunny"},
                {"role": "assistant", "content": f"Sunny on day {n}. <b>Bye</b>"},
            ],
            "tools": [TOOL],
        }
        for n in range(30)
    ]
    return create_from_rows(home, rows, name="Chats")


def test_the_table_shows_conversations_and_not_their_json(studio, chats):
    table = show_page(studio, chats.id, 0, view_of("", "all", "row", None))[0]
    assert "Weather on day 0?" in table and 'calls weather({"city": "Rome"})'.replace(
        '"', "&#34;"
    ) in str(table)
    assert "1 more message" in table and "1 tool: weather" in table
    assert "&#34;role&#34;" not in table and "<b>Bye" not in table
    assert table.index("<span>messages") < table.index("<span>id"), "used columns come first"


def test_a_search_shows_the_turn_with_the_hit(studio, chats):
    table = show_page(studio, chats.id, 0, view_of("sunny ON day 7", "all", "row", None))[0]
    assert "<mark>Sunny on day 7</mark>" in table and "Weather on day" not in table


def test_the_card_of_a_row_is_a_conversation_with_its_cells_folded(studio, chats):
    html = shown_row(studio, chats.id, 1, Changes(chats.id))
    assert html.count('class="bubble ') == 5 and "Calls <code>weather</code>" in html
    assert "1 tool: weather" in html and "<b>Bye" not in html
    assert html.index("bubbles") < html.index("Edit the cells of this row") < html.index("textarea")


def test_a_pair_is_shown_in_its_text_boxes(studio, dataset):
    assert "bubble" not in shown_row(studio, dataset.id, 1, Changes(dataset.id))


@pytest.mark.parametrize(
    "text, query, shown",
    [
        ("Where is it?", "", "Where is it?"),
        ("Where is IT, it?", "it", "Where is <mark>IT</mark>, <mark>it</mark>?"),
        ("a <b> c", "<b>", "a <mark>&lt;b&gt;</mark> c"),
        ("x" * 50, "absent", "x" * 40 + "…"),
        ("y" * 100 + "hit", "hit", "…" + "y" * 60 + "<mark>hit</mark>"),
    ],
)
def test_hits_are_marked_and_in_sight(text, query, shown):
    found = str(marked(text, query, 40 if "y" not in text else 63))
    assert found == shown


def test_a_hit_far_inside_a_cell_is_shown(studio, home):
    rows = [{"prompt": "a " * 500 + f"needle {n}", "response": "b"} for n in range(3)]
    data = create_from_rows(home, rows, name="Long")
    table = show_page(studio, data.id, 0, view_of("needle 2", "all", "row", None))[0]
    assert "<mark>needle 2</mark>" in table and "needle 1" not in table
