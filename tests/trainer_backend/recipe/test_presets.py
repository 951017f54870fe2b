"""Every preset loads and is a recipe this project can run."""

import pytest

from trainer_backend.errors import UserError
from trainer_backend.hardware import Hardware
from trainer_backend.models.source import HUB_ID
from trainer_backend.recipe.presets import (
    differences,
    model_presets,
    recipe_from,
    recipe_from_request,
    recipe_presets,
    resolve_recipe,
    samples,
)
from trainer_backend.recipe.recipe import STARTER_MODEL, Recipe
from trainer_backend.recipe.resolve import resolve

GPU = Hardware("cuda", "Test GPU", 1, 24.0, 24.0, 8, True)
CPU = Hardware("cpu", "CPU", 1, 24.0, 20.0, 2, False)


def test_the_promised_recipes_are_there():
    ids = {preset.id for preset in recipe_presets()}
    assert {"quick_try", "balanced", "low_memory", "full_finetune", "careful"} <= ids


@pytest.mark.parametrize("preset", recipe_presets(), ids=lambda p: p.id)
@pytest.mark.parametrize("machine", [GPU, CPU], ids=lambda m: m.kind)
def test_every_recipe_resolves_on_every_machine(preset, machine):
    recipe, _ = resolve(recipe_from(preset.id), machine)
    assert recipe.precision != "auto" and recipe.learning_rate != "auto"
    assert preset.title and preset.when.endswith(".")
    assert preset.sample is None or preset.sample in {sample.id for sample in samples()}


@pytest.mark.parametrize("preset", model_presets(), ids=lambda p: p.id)
def test_every_model_is_a_hub_id_with_a_recipe_that_holds(preset):
    assert HUB_ID.fullmatch(preset.base_model)
    assert preset.title and preset.parameters and preset.licence and preset.notes.endswith(".")
    resolve(Recipe.from_dict({"base_model": preset.base_model, **preset.recipe}), GPU)


@pytest.mark.parametrize("preset", model_presets(), ids=lambda p: p.id)
def test_a_model_states_the_sizes_it_really_has(preset):
    """Built from its config without memory for weights, it has as many parameters as stated."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    sizes = {k: v for k, v in preset.config.items() if k != "quantization_config"}
    config = AutoConfig.for_model(sizes.pop("model_type"), **sizes)
    loader = AutoModelForImageTextToText if preset.images else AutoModelForCausalLM
    with torch.device("meta"):
        model = loader.from_config(config)
    assert sum(weight.numel() for weight in model.parameters()) == preset.num_parameters
    amount = float(preset.parameters[:-1]) * {"M": 1e6, "B": 1e9}[preset.parameters[-1]]
    assert preset.num_parameters == pytest.approx(amount, rel=0.05)
    stored = 0.57 if "quantization_config" in preset.config else 2
    assert preset.weight_bytes >= stored * preset.num_parameters * 0.99
    assert preset.config.get("max_position_embeddings") or preset.images


def test_the_families_of_the_seed_are_offered_and_the_starter_comes_first():
    models = [preset.base_model.lower() for preset in model_presets()]
    assert models[0] == STARTER_MODEL.lower()
    for family in ("llama-2-7b-hf", "mistral-7b", "gemma-7b", "phi-2", "bnb-4bit"):
        assert any(family in model for model in models), family


def test_samples_are_there_and_licensed():
    assert len(samples()) >= 2
    for sample in samples():
        assert sample.path.is_file() and sample.licence == "Apache-2.0" and sample.about


def test_a_request_names_a_preset_and_changes_it():
    assert recipe_from_request({"preset": "quick_try", "max_steps": 6}).max_steps == 6
    assert recipe_from_request({"seed": 1}) == Recipe(seed=1)


@pytest.mark.parametrize("values", [{"preset": "nope"}, {"nope": 1}, "quick_try", None])
def test_a_request_that_makes_no_sense_is_refused(values):
    with pytest.raises(UserError):
        recipe_from_request(values)


def test_a_recipe_is_named_or_a_file(tmp_path):
    recipe, preset = resolve_recipe("quick_try")
    assert preset.id == "quick_try" and recipe.max_steps == 20
    path = tmp_path / "mine.yaml"
    path.write_text("max_steps: 3\n")
    assert resolve_recipe(str(path)) == (Recipe(max_steps=3), None)
    with pytest.raises(UserError, match="quick_tri"):
        resolve_recipe("quick_tri")


def test_differences_name_both_values():
    assert differences(Recipe(seed=7), Recipe()) == {"seed": (42, 7)}
