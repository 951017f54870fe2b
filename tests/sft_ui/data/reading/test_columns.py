"""Column roles: the format they imply, conflicts, and the preview of the first rows."""

import pytest

from sft_ui.data.reading.columns import (
    ROLE_WORDS,
    example_preview,
    mapping_preview,
    picker,
    read_mapping,
    roles_of,
)
from sft_ui.recipe_form import form_values
from sft_ui.train.next_run_card.next_run import missing
from trainer_backend.data.formats.mapping import FORMATS, ROLE_NAMES
from trainer_backend.data.store.uploads import create_from_rows, remap_dataset
from trainer_backend.errors import UserError
from trainer_backend.recipe.recipe import Recipe


@pytest.fixture
def unclear(home):
    rows = [{"left": f"l{n}", "right": f"r{n}" if n else ""} for n in range(30)]
    return create_from_rows(home, rows, name="Unclear")


def test_every_role_of_every_format_can_be_picked():
    assert set(ROLE_WORDS) == set(ROLE_NAMES)
    assert {role for roles in FORMATS.values() for role in roles} <= set(ROLE_WORDS)


def test_the_user_decides_when_columns_are_unclear(studio, home, unclear):
    values = form_values(Recipe(max_steps=5))
    assert not unclear.sure and "column roles" in missing(studio, unclear.id, values)
    mapping = read_mapping({"prompt": "left", "completion": "right", "system": ""}, unclear)
    chosen = remap_dataset(home, unclear.id, mapping)
    assert chosen.num_examples == 29 and missing(studio, chosen.id, values) == ""
    assert roles_of(chosen) == {"prompt": "left", "completion": "right"}


@pytest.mark.parametrize(
    "roles, format",
    [
        ({"prompt": "left", "completion": "right"}, "prompt_completion"),
        ({"text": "left"}, "text"),
        ({"messages": "left", "system": "right"}, "messages"),
    ],
)
def test_the_format_follows_from_the_roles(unclear, roles, format):
    assert read_mapping(roles, unclear).format == format


@pytest.mark.parametrize(
    "roles, said",
    [
        ({}, "No column has a role"),
        (None, "No column has a role"),
        ({"system": "left"}, "No column has a role"),
        ({"prompt": "left", "text": "right"}, "cannot be combined"),
        ({"prompt": "left"}, "No column is chosen for the completion"),
        ({"prompt": "left", "completion": "gone"}, "no column"),
    ],
)
def test_an_invalid_choice_is_refused(unclear, roles, said):
    with pytest.raises(UserError, match=said):
        read_mapping(roles, unclear)


def test_the_preview_shows_conversations_and_rows_that_cannot_be_used(unclear):
    mapping = read_mapping({"prompt": "left", "completion": "right"}, unclear)
    html = mapping_preview(unclear, mapping, "Be brief.")
    assert "Row 1 cannot be used" in html and "r1" in html and html.count("Be brief.") == 1
    assert html.count('class="turns"') == 2


def test_a_full_text_is_shown_as_learned(unclear):
    html = mapping_preview(unclear, read_mapping({"text": "left"}, unclear))
    assert html.count("learned-turn") == 2 and "context-turn" not in html


def test_tool_calls_and_thoughts_are_shown(home):
    call = {"function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    messages = [
        {"role": "user", "content": "Rome?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "sunny"},
        {"role": "assistant", "content": "Sunny.", "reasoning_content": "The tool says so."},
    ]
    dataset = create_from_rows(home, [{"messages": messages}] * 2, name="Tools")
    html = example_preview(dataset)
    assert "(calls) weather" in html and "(thinks) The tool says so." in html and "Tool" in html


def test_a_picker_shows_its_role():
    html = picker("a&b", "completion")
    assert 'value="completion" selected' in html and 'data-column="a&amp;b"' in html
    assert "selected" in picker("x", "") and 'class="used"' not in picker("x", "")
