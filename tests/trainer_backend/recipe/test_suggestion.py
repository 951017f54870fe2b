"""Epochs, batch size and length follow from the data, and each says why."""

import pytest

from trainer_backend.recipe.presets import recipe_from
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.recipe.resolve import total_steps
from trainer_backend.recipe.suggestion import ENOUGH_STEPS, Data, suggested

BALANCED = recipe_from("balanced")


@pytest.mark.parametrize(
    "rows, epochs",
    [(1, 10), (40, 10), (80, 5), (100, 4), (134, 3), (1_000, 3), (8_333, 3)]
    + [(9_000, 2), (13_000, 1), (1_000_000, 1)],
)
def test_epochs_follow_the_number_of_rows(rows, epochs):
    settings, reasons = suggested(BALANCED, Data(rows))
    assert settings.get("num_train_epochs", 3) == epochs
    assert ("num_train_epochs" in reasons) is (epochs != 3)


def test_few_rows_are_the_reason_for_more_epochs():
    _, reasons = suggested(BALANCED, Data(80))
    assert reasons["num_train_epochs"] == "Epochs 5: you have only 80 rows."
    assert "1 row." in suggested(BALANCED, Data(1))[1]["num_train_epochs"]
    many = suggested(BALANCED, Data(20_000))[1]["num_train_epochs"]
    assert many == "Epochs 1: 20,000 rows need fewer passes."


@pytest.mark.parametrize("rows", [5, 20, 80, 150, 400, 5_000])
@pytest.mark.parametrize("preset", ["balanced", "low_memory", "careful", "full_finetune"])
def test_there_are_enough_steps_where_the_rows_allow_it(preset, rows):
    recipe = recipe_from(preset)
    settings, _ = suggested(recipe, Data(rows))
    after = Recipe.from_dict({**recipe.to_dict(), **settings})
    assert total_steps(after, rows) >= min(ENOUGH_STEPS, rows)
    assert after.per_device_train_batch_size <= recipe.per_device_train_batch_size


def test_accumulation_is_given_up_before_the_batch():
    settings, reasons = suggested(BALANCED, Data(80))
    assert settings["gradient_accumulation_steps"] == 1
    assert "per_device_train_batch_size" not in settings
    assert reasons["gradient_accumulation_steps"] == (
        "Gradient accumulation 1: 8 rows a step, as 16 would make only 25 steps."
    )
    assert suggested(BALANCED, Data(5))[0]["per_device_train_batch_size"] == 2


@pytest.mark.parametrize(
    "lengths, wanted, words",
    [
        ([231] * 50, 256, "the longest row has 231 tokens"),
        ([100] * 199 + [9_000], 128, "1 longer row is cut"),
        ([100] * 198 + [3_000] * 3, 3_008, "the longest row has 3,000 tokens"),
        ([1_020] * 9, 1_024, None),  # as the preset has it
        ([0, 0, 5_000], 5_056, "the longest row has 5,000 tokens"),  # a row that is rejected
        ([0], 1_024, None),
    ],
)
def test_the_length_holds_the_rows(lengths, wanted, words):
    settings, reasons = suggested(BALANCED, Data(1_000, lengths))
    assert settings.get("max_length", 1_024) == wanted
    assert (words is None) is ("max_length" not in reasons)
    assert words is None or words in reasons["max_length"]


def test_the_length_stays_within_the_model_and_the_memory():
    lengths = [30_000] * 10
    read = suggested(BALANCED, Data(1_000, lengths, reads=2_048))
    assert read[0]["max_length"] == 2_048
    assert read[1]["max_length"] == (
        "Maximum length 2,048: the model reads no more; 10 longer rows are cut."
    )
    fits = suggested(BALANCED, Data(1_000, lengths, reads=8_192, fits=4_096))
    assert fits[0]["max_length"] == 4_096 and "does not fit into memory" in fits[1]["max_length"]


def test_a_run_of_a_number_of_steps_keeps_them():
    settings, reasons = suggested(recipe_from("quick_try"), Data(7, [100]))
    assert settings == {"max_length": 128} and list(reasons) == ["max_length"]


def test_without_rows_nothing_is_suggested():
    assert suggested(BALANCED, Data(0, [5])) == ({}, {})
