"""Which way to keep activations is taken for how much memory, and how long a row may then be."""

from dataclasses import replace

import pytest

from trainer_backend.estimation.memory import Setup, peak_memory
from trainer_backend.estimation.plan import unknown_rows
from trainer_backend.estimation.saving.choice import moved_bytes, said, settle, ways
from trainer_backend.estimation.shape import shape_of
from trainer_backend.hardware import GIB, Hardware
from trainer_backend.recipe.recipe import Recipe

EIGHT_B = shape_of(
    {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "vocab_size": 128256}
    | {"num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336}
    | {"tie_word_embeddings": False}
)
QLORA = Recipe(
    adapter="qlora",
    precision="int4",
    lora_r=32,
    per_device_train_batch_size=1,
    gradient_accumulation_steps=1,
    optim="adamw_bnb_8bit",
)


def setup(tokens: int, kind: str = "cuda", **settings) -> Setup:
    recipe = replace(QLORA, max_length=tokens, **settings)
    plan = replace(unknown_rows(recipe), longest_batch=tokens, drawn_batch=tokens)
    return Setup(EIGHT_B, recipe, Hardware(kind, "one", 1, 80.0, 80.0, 8, True), plan)


def taken(way: Setup) -> tuple[bool, bool, bool]:
    recipe = way.recipe
    return recipe.gradient_checkpointing, way.tiled, recipe.activation_offloading


def test_the_ways_come_in_the_order_of_their_cost_and_take_less_and_less():
    found = list(ways(setup(65_536)))
    assert [taken(one) for one in found] == [
        (False, False, False),
        (True, False, False),
        (True, True, False),
        (True, True, True),
    ]
    peaks = [sum(peak_memory(one).values()) for one in found]
    assert peaks == sorted(peaks, reverse=True) and peaks[-1] < peaks[0] / 10


@pytest.mark.parametrize(
    ("tokens", "gigabytes", "expected"),
    [
        (1_000, 24, (False, False, False)),
        (16_384, 24, (True, False, False)),
        (24_000, 24, (True, True, False)),
        (65_536, 80, (True, False, False)),  # 64 k in 80 GB: surely
        (140_000, 80, (True, True, False)),
        (342_000, 80, (True, True, True)),
    ],
)
def test_the_first_way_that_fits_is_taken(tokens, gigabytes, expected):
    asked = setup(tokens)
    way = settle(asked, gigabytes * 1e9, 256 * GIB)
    assert taken(way) == expected
    assert sum(peak_memory(way).values()) <= gigabytes * 1e9


def test_offloading_needs_main_memory_and_a_gpu():
    asked = setup(342_000)
    assert moved_bytes(asked) == 342_000 * 4096 * 2 * 32
    assert taken(settle(asked, 80e9, 64 * GIB)) == (True, True, False)
    assert all(not one.offloads for one in ways(setup(342_000, "cpu")))


def test_short_rows_are_not_tiled_and_what_was_asked_for_stays():
    assert all(not one.tiled for one in ways(setup(4_096)))
    asked = setup(65_536, gradient_checkpointing=True, activation_offloading=True)
    assert [taken(one) for one in ways(asked)] == [(True, False, True), (True, True, True)]


def test_what_is_switched_on_is_said():
    asked = setup(342_000)
    *_, last = ways(asked)
    assert said(asked, asked) == ""
    assert said(asked, last) == (
        "So that the longest batch fits into memory, “Gradient checkpointing”, “Activation "
        "offloading” and tiles for long rows are used; results are the same."
    )
    assert "“Gradient checkpointing” is used" in said(asked, list(ways(asked))[1])
