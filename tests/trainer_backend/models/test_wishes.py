"""What a model wants of the settings, for presets and for models known by their facts alone."""

import pytest

from trainer_backend.models.facts import ModelFacts
from trainer_backend.models.wishes import wishes_in_words, with_wishes
from trainer_backend.recipe.recipe import Recipe

ALL = {"adapter", "precision", "packing", "max_length"}


@pytest.mark.parametrize(
    "facts, wanted, words",
    [
        ({"bits": 4}, {"adapter": "qlora", "precision": "int4"},
         "This model is stored in 4 bits, so Method is set to QLoRA and Precision to int4."),
        ({"bits": 8}, {"precision": "int8"}, "stored in 8 bits"),
        ({"images": True}, {"packing": False, "max_length": 2048}, "reads images"),
        ({"config": {"n_positions": 512}}, {"max_length": 512},
         "This model reads at most 512 tokens, so Maximum length is set to 512."),
        ({"config": {"text_config": {"max_position_embeddings": 4096}}}, {}, ""),
        ({"config": {"max_position_embeddings": "many"}}, {}, ""),
        ({}, {}, ""),
    ],
)  # fmt: skip
def test_a_model_wants_what_follows_from_its_facts(facts, wanted, words):
    model = ModelFacts("own/er", "hub", **facts)
    recipe = with_wishes(Recipe(), model)
    assert recipe == Recipe.from_dict({"base_model": "own/er", **wanted})
    told = " ".join(wishes_in_words(Recipe(), model, ALL))
    assert words in told and bool(words) == bool(told)


def test_only_settings_that_were_set_are_told():
    model = ModelFacts("own/er", "hub", bits=4)
    assert wishes_in_words(Recipe(), model, {"precision"}) == [
        "This model is stored in 4 bits, so Precision is set to int4."
    ]
    preset = ModelFacts("HuggingFaceTB/SmolVLM-256M-Instruct", "hub", images=True)
    assert with_wishes(Recipe(), preset).packing is False
