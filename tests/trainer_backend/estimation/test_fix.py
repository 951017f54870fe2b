"""Settings that make a run fit: few changes, the least harmful kind first, and they do fit."""

import pytest

from trainer_backend.estimation import estimate
from trainer_backend.hardware import Hardware
from trainer_backend.recipe.presets import model_presets
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.recipe.resolve import check_recipe

GPU = Hardware("cuda", "NVIDIA L4", 1, 22.0, 21.0, 8, True)
SMALL_CPU = Hardware("cpu", "CPU", 1, 8.0, 3.0, 4, True)
CPU = Hardware("cpu", "CPU", 1, 16.0, 9.0, 4, True)
TWO_GPUS = Hardware("cuda", "NVIDIA L4", 2, 22.0, 21.0, 8, True)
SIZES = [one.base_model for one in model_presets() if one.base_model.count("/") == 1]


@pytest.mark.parametrize("machine", [GPU, SMALL_CPU, TWO_GPUS], ids=lambda one: one.label())
@pytest.mark.parametrize(
    "settings",
    [
        {"adapter": "full", "learning_rate": 1e-5},
        {"per_device_train_batch_size": 64, "max_length": 4096},
        {"adapter": "qlora", "precision": "int8", "max_length": 65536},
        {"adapter": "full", "distributed": "fsdp"},
        {"precision": "fp32", "lora_r": 256},
    ],
)
def test_what_is_offered_fits(home, machine, settings):
    for base_model in SIZES:
        recipe = Recipe(base_model=base_model, **settings)
        found = estimate(recipe, None, machine, home=home)
        assert found.fits is not None, base_model
        if found.fix is None:
            continue
        assert not found.fits and set(found.fix) <= set(recipe.to_dict())
        changed = Recipe.from_dict({**recipe.to_dict(), **found.fix})
        assert estimate(changed, None, machine, home=home).fits
        assert all(one.severity != "error" for one in check_recipe(changed, machine))
        examples = changed.per_device_train_batch_size * changed.gradient_accumulation_steps
        before = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps
        assert examples == before  # the same examples a step


def test_the_least_harmful_change_comes_first(home):
    large = Recipe(base_model="meta-llama/Llama-3.2-1B-Instruct", max_length=256)
    assert large.base_model in SIZES
    full = Recipe(**{**large.to_dict(), "adapter": "full"})
    assert estimate(full, None, CPU, home=home).fix["adapter"] == "lora"
    fix = estimate(
        Recipe(**{**large.to_dict(), "per_device_train_batch_size": 256}), None, CPU, home=home
    ).fix
    assert fix["per_device_train_batch_size"] < 256 and "max_length" not in fix


def test_a_shorter_length_is_the_last_resort_and_is_said(home, dataset):
    recipe = Recipe(adapter="qlora", per_device_train_batch_size=1, max_length=500_000)
    found = estimate(recipe, None, SMALL_CPU, home=home)
    assert found.fix["max_length"] < 500_000
    assert any("Maximum length" in note for note in found.notes)


def test_nothing_helps_where_the_model_is_too_large(home):
    none = Hardware("cpu", "CPU", 1, 4.0, 0.3, 2, True)
    found = estimate(Recipe(), None, none, home=home)
    assert found.fits is False and found.fix is None
    assert any("smaller model" in note and "GB" in note for note in found.notes)
