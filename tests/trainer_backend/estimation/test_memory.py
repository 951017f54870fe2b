"""The formula of memory against measured peaks, on a CPU (GiB of the process) and on a GPU (GB)."""

from dataclasses import replace

import pytest

from trainer_backend.estimation.memory import PARTS, Setup, peak_memory
from trainer_backend.estimation.plan import Plan, unknown_rows
from trainer_backend.estimation.shape import Shape, shape_of
from trainer_backend.estimation.weights import Stored
from trainer_backend.hardware import GIB, Hardware
from trainer_backend.recipe.recipe import Recipe

CPU = Hardware("cpu", "CPU", 1, 32.0, 32.0, 2, True)
GPU = Hardware("cuda", "NVIDIA H200", 1, 139.0, 139.0, 16, True)
SHAPES = {
    "starter": shape_of(
        {"model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "vocab_size": 49152}
        | {"num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536}
        | {"tie_word_embeddings": True}
    ),
    "73M": shape_of(
        {"model_type": "qwen2", "hidden_size": 512, "num_hidden_layers": 8, "vocab_size": 49152}
        | {"num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 1408}
        | {"tie_word_embeddings": False}
    ),
    "410M": shape_of(
        {"model_type": "llama", "hidden_size": 1280, "num_hidden_layers": 20, "vocab_size": 49152}
        | {"num_attention_heads": 20, "num_key_value_heads": 5, "intermediate_size": 3456}
        | {"tie_word_embeddings": True}
    ),
    "gpt2": shape_of(
        {"model_type": "gpt2", "n_embd": 512, "n_layer": 8, "n_head": 8, "vocab_size": 49152}
    ),
    "1.2B": shape_of(
        {"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "vocab_size": 128256}
        | {"num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 8192}
        | {"tie_word_embeddings": True}
    ),
}
FULL, QLORA = {"adapter": "full"}, {"adapter": "qlora", "precision": "int4"}
CHECKPOINTING = {"gradient_checkpointing": True}
# model, settings, rows of a batch, tokens of a row (286 of 412 and 61 of 112 learned), GiB
MEASURED = [
    ("starter", {}, 2, 412, 1.77),
    ("starter", {}, 6, 412, 3.10),
    ("starter", CHECKPOINTING, 4, 412, 1.33),
    ("starter", {"precision": "fp32"}, 2, 412, 2.58),
    ("starter", FULL, 4, 112, 3.27),
    ("starter", FULL | CHECKPOINTING | {"precision": "fp32"}, 4, 412, 3.61),
    ("starter", QLORA, 4, 112, 1.73),
    ("73M", {}, 8, 412, 1.56),
    ("73M", {"precision": "fp32"}, 8, 412, 2.37),
    ("73M", {"precision": "int8"}, 8, 412, 2.58),
    ("73M", QLORA, 4, 412, 1.72),
    ("73M", FULL, 4, 412, 2.32),
    ("73M", FULL | {"precision": "fp32"}, 8, 412, 3.13),
    ("73M", FULL | {"optim": "adafactor"}, 4, 412, 1.94),
    ("73M", FULL | CHECKPOINTING | {"optim": "adamw_bnb_8bit"}, 4, 412, 2.12),
    ("73M", CHECKPOINTING, 8, 932, 1.26),
    ("410M", {}, 4, 112, 2.07),
    ("410M", FULL, 2, 112, 7.85),
    ("410M", QLORA | CHECKPOINTING, 4, 112, 2.73),
    ("gpt2", {}, 8, 412, 3.21),
]
# settings, tokens of the largest batch, learned of them, GB: one H200, 1.2 billion weights in bf16
ON_A_GPU = [
    ({}, 3700, 2800, 11.9),
    (CHECKPOINTING, 3700, 2800, 7.3),
    ({}, 16384, 12260, 32.0),
    (FULL, 3700, 2800, 29.6),
    (FULL, 16384, 12260, 57.2),
    (FULL | {"gradient_accumulation_steps": 4}, 1000, 700, 26.6),
    (QLORA | CHECKPOINTING | {"gradient_accumulation_steps": 4}, 1000, 700, 3.7),
]


def plan_of(recipe: Recipe, tokens: int, learned: int, row: int) -> Plan:
    return replace(
        unknown_rows(recipe),
        steps=1,  # the rows had one length, with which a process does not grow
        longest_batch=tokens,
        drawn_batch=tokens,
        longest_trained=learned,
        row_tokens=row,
    )


def in_all(shape: Shape, recipe: Recipe, machine: Hardware, plan: Plan, **more) -> float:
    parts = peak_memory(Setup(shape, recipe, machine, plan, **more))
    assert tuple(parts) == PARTS and min(parts.values()) >= 0
    return sum(parts.values())


@pytest.mark.parametrize(("model", "settings", "rows", "row", "peak"), MEASURED)
def test_peaks_on_a_cpu(model, settings, rows, row, peak):
    recipe, shape = Recipe(**{"precision": "bf16"} | settings), SHAPES[model]
    learned = rows * {412: 286, 112: 61, 932: 676}[row]
    files = Stored(shape.parameters, 0, {"BF16": shape.parameters})
    plan = plan_of(recipe, rows * row, learned, row)
    assert in_all(shape, recipe, CPU, plan, stored=files) / GIB == pytest.approx(peak, rel=0.12)


@pytest.mark.parametrize(("settings", "tokens", "learned", "peak"), ON_A_GPU)
def test_peaks_on_a_gpu(settings, tokens, learned, peak):
    recipe = Recipe(**{"precision": "bf16"} | settings)
    plan = plan_of(recipe, tokens, learned, 250)
    assert in_all(SHAPES["1.2B"], recipe, GPU, plan) / 1e9 == pytest.approx(peak, rel=0.12)


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({}, {"per_device_train_batch_size": 64}),
        (CHECKPOINTING, {}),
        ({}, {"lora_r": 256}),
        ({"precision": "bf16"}, {"precision": "fp32"}),
        (QLORA, {"precision": "bf16"}),
        ({}, FULL),
        (FULL | {"optim": "adamw_bnb_8bit"}, FULL),
        (FULL, FULL | {"gradient_accumulation_steps": 2}),
        ({"activation_offloading": True}, {}),
        ({}, {"modules_to_save": "lm_head"}),
        ({}, {"lora_dropout": 0.1}),
    ],
)
def test_every_setting_counts(less, more):
    sizes = []
    for settings in (less, more):
        recipe = Recipe(**{"precision": "bf16"} | settings)
        sizes.append(in_all(SHAPES["1.2B"], recipe, GPU, unknown_rows(recipe)))
    assert sizes[0] < sizes[1]


def test_processes_share_or_add_up():
    recipe = Recipe(precision="bf16", adapter="full", num_processes=4, max_length=16)
    shape, plan = SHAPES["1.2B"], unknown_rows(recipe)
    alone = in_all(shape, recipe, GPU, plan)
    whole = in_all(shape, recipe, GPU, plan, processes=4)
    shard = in_all(shape, replace(recipe, distributed="fsdp"), GPU, plan, processes=4)
    assert shard < alone < whole  # DDP holds copies of the gradients to send
    assert in_all(shape, recipe, CPU, plan, processes=4) > 3.9 * in_all(shape, recipe, CPU, plan)


def test_the_answers_at_the_end_may_be_the_peak():
    recipe = Recipe(precision="bf16", max_length=64, per_device_train_batch_size=1)
    plan = replace(unknown_rows(recipe), answer_rows=20, answer_tokens=400.0, prompt_tokens=6000.0)
    shape = SHAPES["1.2B"]
    assert in_all(shape, recipe, GPU, plan) > 2 * in_all(shape, recipe, GPU, unknown_rows(recipe))


def test_a_process_on_a_cpu_grows_with_lengths_and_answers():
    recipe, shape = Recipe(precision="bf16"), SHAPES["73M"]
    plan = plan_of(recipe, 64, 32, 8)
    first = in_all(shape, recipe, CPU, plan)
    later = in_all(shape, recipe, CPU, replace(plan, steps=50))
    assert 0.15 < (later - first) / GIB < 0.3
    answers = replace(
        plan, steps=50, answer_rows=20, answer_tokens=300.0, prompt_tokens=100.0, answer_limit=400
    )
    assert in_all(shape, recipe, CPU, answers) > later
    on_gpu = [in_all(shape, recipe, GPU, replace(plan, steps=n)) for n in (1, 50)]
    assert on_gpu[0] == on_gpu[1]
