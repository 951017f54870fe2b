"""The measures that a recipe names: read from text, and wrong ones refused in words."""

import pytest

from trainer_backend.errors import UserError
from trainer_backend.evaluation import measures
from trainer_backend.recipe.metrics import MEASURES, parse_metrics


def test_a_recipe_knows_the_measures_that_there_are():
    assert MEASURES == measures.MEASURES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", ()),
        (" ", ()),
        ("chrf, exact_match,chrf", ("chrf", "exact_match")),
        ("Loss, rouge_l", ("rouge_l",)),
        ("loss, perplexity", None),
    ],
)
def test_names_are_read_with_commas(text, expected):
    assert parse_metrics(text) == expected


def test_a_name_that_is_no_measure_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="“token_f2” is no measure") as told:
        parse_metrics("chrf, token_f2")
    assert "Did you mean token_f1" in told.value.fix and "Measures" in told.value.where
