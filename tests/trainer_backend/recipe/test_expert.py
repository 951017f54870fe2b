"""Expert settings before a run: what cannot be combined, and what has no effect."""

import pytest

from trainer_backend.errors import UserError
from trainer_backend.hardware import Hardware
from trainer_backend.recipe.adapter_parts import parse_layers, parse_names
from trainer_backend.recipe.expert import data_notes
from trainer_backend.recipe.labels import LORA_FIELDS
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.recipe.resolve import check_recipe, is_relevant, resolve

CPU = Hardware("cpu", "CPU", 1, 24.0, 20.0, 2, False)
H100 = Hardware("cuda", "H100", 2, 80.0, 79.0, 26, True)


@pytest.mark.parametrize(
    ("text", "layers"),
    [("", []), ("0-2, 20", [0, 1, 2, 20]), (" 3,1 ,1", [1, 3]), ("5 – 6", [5, 6]), ("7,", [7])],
)
def test_layers_are_read(text, layers):
    assert parse_layers(text) == layers


@pytest.mark.parametrize("text", ["-4", "3-1", "a", "1.5", "0-99999", "1 2", "0--1", "all"])
def test_what_is_no_list_of_layers_is_refused(text):
    with pytest.raises(UserError, match="names no layers"):
        parse_layers(text)
    assert [p.severity for p in check_recipe(Recipe(layers_to_transform=text), CPU)] == ["error"]


def test_names_are_read():
    assert parse_names(" lm_head, embed_tokens,, lm_head") == ["lm_head", "embed_tokens"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"loss_type": "dft", "label_smoothing_factor": 0.1}, "DFT already weights"),
        ({"init_lora_weights": "pissa", "adapter": "qlora"}, "PiSSA splits"),
        ({"init_lora_weights": "pissa", "precision": "int8"}, "PiSSA splits"),
        ({"init_lora_weights": "pissa", "base_model": "a/b-bnb-4bit"}, "PiSSA splits"),
        ({"init_lora_weights": "pissa", "distributed": "fsdp"}, "FSDP leaves"),
        ({"use_dora": True, "precision": "int8"}, "8 bits"),
        ({"use_dora": True, "distributed": "fsdp"}, "FSDP leaves"),
        ({"extra_arguments": "nothing_known: 1"}, "no argument"),
    ],
)
def test_what_cannot_be_combined_is_refused_in_words(values, said):
    recipe = Recipe.from_dict(values)
    with pytest.raises(UserError, match=said) as refused:
        resolve(recipe, H100)
    assert refused.value.where and refused.value.fix


def test_full_training_ignores_the_settings_of_adapters_and_says_so():
    recipe = Recipe(adapter="full", use_dora=True, loraplus_lr_ratio=16.0, lora_r=8)
    problems = check_recipe(recipe, CPU)
    assert [problem.severity for problem in problems] == ["warning"]
    assert "“DoRA”, “LoRA+ ratio”" in problems[0].what and "rank" not in problems[0].what
    pissa = Recipe(adapter="full", init_lora_weights="pissa", layers_to_transform="x")
    assert all(problem.severity == "warning" for problem in check_recipe(pissa, CPU))


@pytest.mark.parametrize(
    ("values", "machine", "said"),
    [
        ({"activation_offloading": True}, CPU, "no effect without an NVIDIA GPU"),
        ({"activation_offloading": True}, H100, ""),
        ({"optim": "adafactor", "adam_beta2": 0.95}, CPU, "Adafactor has no betas"),
        ({"last_turn_only": True, "assistant_only_loss": False}, CPU, "prompts are not learned"),
        ({"last_turn_only": True}, CPU, ""),
    ],
)
def test_settings_without_an_effect_are_named(values, machine, said):
    notes = [problem.what for problem in check_recipe(Recipe(**values), machine)]
    assert said in " ".join(notes) and bool(notes) is bool(said)
    assert notes == [note for note in resolve(Recipe(**values), machine)[1]]


def test_plain_text_has_no_last_answer():
    assert data_notes(Recipe(last_turn_only=True), "text")
    assert not data_notes(Recipe(last_turn_only=True), "messages") and not data_notes(
        Recipe(), "text"
    )


def test_fields_of_an_adapter_are_hidden_without_one():
    full = Recipe(adapter="full", optim="adafactor")
    for name in (*LORA_FIELDS, "loraplus_lr_ratio", "adam_beta1", "adam_beta2"):
        assert is_relevant(name, Recipe()) and not is_relevant(name, full)
