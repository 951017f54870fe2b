"""The row browser: pages, filters, order, jumps, and the role pickers."""

import json

import pytest

from sft_ui.data.row_events import show_page, view_of
from sft_ui.data.rows import table as row_table
from sft_ui.data.rows.card import Changes, row_card
from sft_ui.data.rows.table import View
from trainer_backend.data.store.uploads import create_dataset, create_from_rows
from trainer_backend.errors import UserError


@pytest.fixture
def mixed(home):
    rows = [
        {"prompt": f"p{n}", "response": "" if n in (3, 150) else "r" * n} for n in range(1, 200)
    ]
    return create_from_rows(home, rows, name="Two empty answers")


def numbers(dataset, view, start=0):
    return [number for number, _ in row_table.page(dataset, start, view)[0]]


def test_a_page_has_25_rows_and_its_position(studio, dataset):
    table, where, start = show_page(studio, dataset.id, 0, View())
    assert table.count("<tr data-pick") == 25 and "Rows 1 to 25 of 60" in where and start == 0


@pytest.mark.parametrize("start, first", [(50, 50), (75, 50), (-25, 0), (10_000, 50)])
def test_turning_pages_never_leaves_the_data(studio, dataset, start, first):
    assert show_page(studio, dataset.id, start, View())[2] == first


def test_an_unknown_dataset_is_refused_and_none_is_nothing(studio):
    with pytest.raises(UserError):
        show_page(studio, "../../etc/passwd", 0, View())
    assert show_page(studio, "", 0, View()) == ("", "", 0)


def test_every_problem_filters_all_of_its_rows(home):
    rows = [{"prompt": f"p{n}", "response": "same" if n else ""} for n in range(300)]
    rows += rows[1:200]
    dataset = create_from_rows(home, rows, name="Many duplicates")
    at = next(i for i, one in enumerate(dataset.problems) if one.code == "duplicates")
    assert len(dataset.problems[at].rows) < 199
    found, total, _ = row_table.page(dataset, 0, View(show=str(at)))
    assert total == 199 and found[0][0] == 301
    assert row_table.page(dataset, 0, View(show=row_table.WITH_PROBLEMS))[1] >= 200


def test_search_order_and_a_search_without_result(studio, mixed):
    assert numbers(mixed, View(sort="longest"))[0] == 199
    assert numbers(mixed, View(query="p19", sort="longest"))[:2] == [199, 198]
    table, where, _ = show_page(studio, mixed.id, 0, View(query="absent"))
    assert "Nothing matches" in table and "No rows" in where


def test_held_out_rows_are_the_ones_of_the_split(mixed):
    view = View(show=row_table.HELD_OUT, eval_fraction=0.1, seed=3)
    _, total, _ = row_table.page(mixed, 0, view)
    assert total == len(mixed.split(0.1, 3)[1])


def test_a_row_is_found_on_its_page(mixed):
    assert row_table.start_of(mixed, 60, View()) == 50
    assert row_table.start_of(mixed, 199, View(sort="longest")) == 0
    assert row_table.start_of(mixed, 4711, View()) is None


def test_the_filter_offers_problems_only_where_there_are_some(mixed, dataset):
    values = [value for _, value in row_table.filter_choices(mixed.problems)]
    assert row_table.WITH_PROBLEMS in values and "0" in values
    assert [value for _, value in row_table.filter_choices([])] == ["all", "held_out"]


def test_changes_that_are_not_saved_show_in_the_table(dataset):
    rows, _ = dataset.page(0)
    changes = Changes(dataset.id).edited(1, {"response": "A better answer"}).dropped(2)
    table = row_table.rows_table(dataset, rows, 1, None, changes)
    assert "A better answer" in table and 'class="chosen edited"' in table
    assert table.count('class="dropped"') == 1


def test_headers_show_the_roles_chosen_on_the_page(dataset):
    rows, _ = dataset.page(0)
    assert 'value="prompt" selected' in row_table.rows_table(dataset, rows, None)
    table = row_table.rows_table(dataset, rows, None, {"text": "prompt"})
    assert 'value="text" selected' in table and 'value="completion" selected' not in table


def test_invalid_filters_show_all_rows(mixed):
    view = view_of(None, "999", "row", None)
    assert row_table.page(mixed, 0, view)[1] == mixed.num_rows


def test_images_are_thumbnails_in_the_table_and_come_by_id(home, tmp_path):
    dot = (
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
        "AABJRU5ErkJggg=="
    )
    rows = [
        {"image": f"data:image/png;base64,{dot}", "question": f"What {n}?", "answer": f"A {n}"}
        for n in range(3)
    ]
    file = tmp_path / "pictures.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    dataset = create_dataset(home, file)
    found, _ = dataset.page(0)
    table = row_table.rows_table(dataset, found, None)
    assert table.count(f'src="studio/images/{dataset.id}/') == 3 and "base64" not in table
    card = row_card(dataset, 1, found[0][1], Changes(dataset.id))
    assert card.count("<img") == 1
