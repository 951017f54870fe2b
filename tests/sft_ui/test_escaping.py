"""Whatever a user or a model wrote is text on the page, never markup."""

import pytest

from sft_ui import cards, data_view, row_table, token_view
from sft_ui.column_roles import example_preview
from sft_ui.conversation import pane
from sft_ui.dataset_list import dataset_list
from sft_ui.layout import header
from sft_ui.problem_list import problem_list
from sft_ui.row_card import Changes, row_card
from sft_ui.runs_tab import runs_table
from sft_ui.train_tab import run_card
from trainer_backend.data.store import create_from_rows
from trainer_backend.errors import Problem, UserError


def pieces(text):
    problem = Problem("error", text, text, text, rows=(1, 2), count=2)
    return [
        cards.card(text, cards.line(text)),
        cards.empty(text, text),
        cards.facts([(text, text)]),
        cards.chips([text]),
        cards.problem_card(problem),
        cards.error_card(UserError(text, text, text)),
        cards.table(text, [text], [(text, text, [text])], text),
        cards.plain_table(text, [text], [(1, [text])]),
        problem_list([problem]),
        pane("base", [{"role": "user", "content": text}, {"role": "assistant", "content": text}]),
        header(text),
    ]


def assert_is_text(html):
    assert "<script" not in html and "<img" not in html
    assert "&lt;script&gt;" in html


def test_every_piece_escapes_its_text(hostile):
    for html in pieces(hostile):
        assert_is_text(html)


def test_a_dataset_is_shown_as_text(home, hostile):
    dataset = create_from_rows(home, [{"prompt": hostile, "response": hostile}], name=hostile)
    rows, _ = dataset.page(0)
    changes = Changes(dataset.id).edited(1, {"prompt": hostile + " edited"})
    assert_is_text(data_view.report(dataset, 0, 0.1, dataset.lineage() * 2))
    assert_is_text(row_table.rows_table(dataset, rows, None, None, changes))
    assert_is_text(row_card(dataset, 1, rows[0][1], changes))
    assert_is_text(example_preview(dataset))
    assert_is_text(dataset_list([dataset], ""))


def test_columns_named_like_markup_are_text(home, hostile):
    dataset = create_from_rows(home, [{hostile: "a", "other": "b"}], name="odd")
    rows, _ = dataset.page(0)
    assert_is_text(row_table.rows_table(dataset, rows, None))
    assert_is_text(row_card(dataset, 1, rows[0][1], Changes(dataset.id)))
    assert_is_text(data_view.report(dataset, 0, 0.1))


def test_a_run_is_shown_as_text(run, hostile):
    run.rename(hostile[:110])
    assert_is_text(run_card(run))
    assert_is_text(runs_table([run.summary()], ""))


def test_tokens_are_text_with_visible_blanks(hostile):
    tokens = [{"text": hostile, "id": 1, "learned": True, "cut": False}]
    view = {
        "tokens": tokens,
        "num_tokens": 1,
        "num_learned": 1,
        "max_length": 8,
        "notes": [hostile],
    }
    assert_is_text(token_view.token_card(view, 1, hostile))
    assert token_view.visible("a b\n<") == "a·b↵\n&lt;"


@pytest.mark.parametrize(
    "token, kind",
    [
        ({"learned": True, "cut": False}, "learned"),
        ({"learned": False, "cut": False}, "context"),
        ({"learned": True, "cut": True}, "cut"),
    ],
)
def test_a_token_has_one_kind(token, kind):
    assert token_view.kind_of(token) == kind


def test_a_cell_is_cut_to_a_readable_length():
    assert len(cards.cell("x" * 5000)) < 400
    assert "empty" in cards.cell(None)
