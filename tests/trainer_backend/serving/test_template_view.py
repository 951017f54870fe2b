"""What the page is told of a chat template: origin, first row, what it does with the rows."""

from dataclasses import replace

import pytest

from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.errors import UserError
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.serving.process.template_view import view_template

BARE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
DEAF = "{% for m in messages if m['role'] == 'user' %}{{ m['content'] + eos_token }}{% endfor %}"
PICKY = (
    "{% if 'Question 3' in messages[0]['content'] %}{{ raise_exception('No threes') }}{% endif %}"
    "{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"
)


@pytest.fixture
def recipe(tiny_model_dir):
    return Recipe(base_model=str(tiny_model_dir))


@pytest.fixture
def view(home, dataset, recipe):
    return lambda template: view_template(home, dataset.id, replace(recipe, chat_template=template))


def text_of(found, learned):
    return "".join(
        one["text"] for one in found["first"]["view"]["tokens"] if one["learned"] is learned
    )


def test_the_models_own_template_with_its_file_and_the_first_row(view):
    found = view("model")
    assert found["origin"] == "The model's own, from its file chat_template.jinja"
    assert found["template"].startswith("{%") and found["unknown"] == []
    assert text_of(found, True).endswith("<|im_end|>") and "user" in text_of(found, False)
    rows = found["rows"]
    assert rows["checked"] == rows["of"] > 0
    assert (rows["num_refused"], rows["not_learned"], rows["endless"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("choice", "words"),
    [("chatml", "built-in template ChatML"), ("training", "training template"), (BARE, "Your own")],
)
def test_the_origin_is_said_in_words(view, choice, words):
    assert words in view(choice)["origin"]


def test_a_text_that_has_a_name_is_called_by_it(view):
    assert view(view("model")["template"])["choice"] == "model"
    assert view(view("zephyr")["template"])["choice"] == "zephyr"
    assert view(BARE)["choice"] == BARE


def test_what_a_template_does_to_the_rows_is_counted(view):
    assert view(BARE)["rows"]["endless"] == view(BARE)["rows"]["checked"]
    deaf = view(DEAF)["rows"]
    assert deaf["num_refused"] + deaf["not_learned"] == deaf["checked"]


def test_refused_rows_are_named_by_their_numbers(home, recipe):
    rows = [{"prompt": f"Question {n}", "response": "Yes."} for n in (1, 2, 3, 4)]
    dataset = create_from_rows(home, rows, name="four")
    found = view_template(home, dataset.id, replace(recipe, chat_template=PICKY))
    assert found["rows"]["num_refused"] == 1
    (row, why), *_ = found["rows"]["refused"]
    assert row == 3 and "No threes" in why


def test_plain_text_needs_no_template_and_no_data_no_rows(home, recipe):
    plain = create_from_rows(home, [{"text": f"Story {n}"} for n in range(4)], name="texts")
    assert view_template(home, plain.id, recipe)["plain"] is True
    assert "rows" not in view_template(home, "", recipe)


def test_a_syntax_error_names_its_line(view):
    with pytest.raises(UserError, match="cannot be read") as caught:
        view("{% for m in messages %}\n{{ m['content'] }")
    assert "line" in caught.value.where
