"""The fold of the chat template: its card, its warnings, and what may not be used."""

import pytest

from sft_ui.model.template import refuse_unfit, start_choices, template_card, warnings
from sft_ui.recipe_form import choices_of, field_update
from trainer_backend.errors import UserError
from trainer_backend.recipe import SETTINGS

OWN = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def found(**rows):
    counts = {"checked": 10, "of": 30, "num_refused": 0, "refused": [], "not_learned": 0}
    return {
        "origin": "The model's own, from its file chat_template.jinja",
        "template": OWN,
        "unknown": [],
        "rows": {**counts, "endless": 0, **rows},
        "first": {"row": 1, "error": {"what": "Refused.", "where": "row 1", "fix": "Change it."}},
    }


def test_the_card_says_origin_rows_and_why_the_first_is_refused():
    card = template_card(found(), "m")
    assert "from its file chat_template.jinja." in card
    assert "Tried on 10 of 30 rows: 10 can be learned." in card and "Refused." in card


def test_each_fault_is_one_sentence_with_its_number():
    said = warnings(found(num_refused=1, refused=[[3, "No <b>"]], not_learned=2, endless=4))
    assert said[0] == "1 of these rows is refused (row 3: No <b>)."
    assert said[1].startswith("2 of these rows") and said[2].startswith("In 4 of these rows")
    assert "<b>" not in template_card(found(num_refused=1, refused=[[3, "No <b>"]]), "m")


def test_a_mark_without_a_token_is_named():
    assert "<|eot_id|>" in warnings({**found(), "unknown": ["<|eot_id|>"]})[0]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"num_refused": 10, "refused": [[1, "No."]]}, "refuses every row"),
        ({"num_refused": 4, "refused": [[1, "No."]], "not_learned": 6}, "learn nothing"),
    ],
)
def test_a_template_that_teaches_nothing_is_not_used(rows, words):
    with pytest.raises(UserError, match=words):
        refuse_unfit(found(**rows))
    refuse_unfit(found(num_refused=4, refused=[[1, "No."]], not_learned=5))


def test_an_own_template_is_a_choice_of_its_field():
    setting = SETTINGS["chat_template"]
    assert choices_of(setting, OWN)[-1] == ("Your own template", OWN)
    assert len(choices_of(setting, "chatml")) == len(setting.choices) == len(start_choices()) - 1
    assert field_update("chat_template", OWN)["choices"][-1][1] == OWN
    assert "choices" not in field_update("seed", 3)
