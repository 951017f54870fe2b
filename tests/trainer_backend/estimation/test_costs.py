"""The model of time: what makes a run longer, and the figures measured on an H200."""

from dataclasses import replace

import pytest
from estimated import LLAMA_1B, SMOL, plan

from trainer_backend.estimation.costs import Batch, Work, forward, phase_seconds, step
from trainer_backend.estimation.device import Rates
from trainer_backend.recipe import Recipe

QUIET = Rates(fp32=180, bf16=410, fp16=180, memory=55, measured=True)
H200 = Rates(fp32=400_000, bf16=794_000, fp16=794_000, memory=4000, measured=True)


def seconds(work_plan=None, kind="cpu", shape=SMOL, rates=QUIET, **settings) -> dict[str, float]:
    recipe = Recipe(**{"precision": "bf16", **settings})
    return phase_seconds(Work(shape, recipe, rates, kind), work_plan or plan())


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("adapter", ["lora", "qlora", "full"])
@pytest.mark.parametrize(
    "more",
    [
        {"steps": 20},
        {"step_tokens": 1600.0},
        {"step_trained": 600.0},
        {"row_tokens": 4000.0},
        {"micro_batches": 4},
    ],
)
def test_more_work_takes_longer_training(kind, adapter, more):
    precision = "int4" if adapter == "qlora" else "bf16"
    settings = {"kind": kind, "adapter": adapter, "precision": precision}
    least = seconds(**settings)["training"]
    assert seconds(plan(**more), **settings)["training"] > least


@pytest.mark.parametrize(
    ("phase", "more"),
    [
        ("preparing", {"rows": 10_000}),
        ("trial", {"longest_batch": 4000}),
        ("evaluating", {"eval_runs": 4}),
        ("evaluating", {"eval_tokens": 9000}),
        ("saving", {"saves": 9}),
        ("comparing", {"answer_rows": 40}),
        ("comparing", {"longest_answer": 400, "answer_limit": 456}),
        ("comparing", {"loss_groups": 40}),
    ],
)
def test_every_phase_grows_with_its_work(phase, more):
    assert seconds(plan(**more))[phase] > seconds()[phase]


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_checkpointing_computes_the_layers_again(kind):
    used = {"kind": kind, "rates": QUIET if kind == "cpu" else H200}
    with_it = seconds(**used, gradient_checkpointing=True)
    ratio = with_it["training"] / seconds(**used)["training"]
    assert 1.15 < ratio < 1.45


def test_an_adapter_needs_no_gradients_of_weights():
    assert seconds(adapter="lora")["training"] < seconds(adapter="full")["training"]


def test_weights_stored_in_four_bits_are_unpacked_in_every_pass():
    slow = seconds(adapter="qlora", precision="int4")
    assert slow["training"] > seconds(precision="fp32")["training"]
    assert slow["loading"] > seconds()["loading"]


def test_without_evaluation_saves_and_answers_their_phases_are_empty():
    found = seconds(plan(eval_runs=0, eval_tokens=0, saves=0, answer_rows=0, loss_groups=0))
    assert found["evaluating"] == found["saving"] == found["comparing"] == 0


def test_two_gpus_share_a_step():
    work = Work(LLAMA_1B, Recipe(precision="bf16"), H200, "cuda")
    packed = plan(step_tokens=64_000.0, step_trained=48_000.0, row_tokens=800.0)
    assert step(replace(work, devices=2), packed) < 0.7 * step(work, packed)


# Milliseconds a step of a model shaped like Llama-3.2-1B on one H200: 16 Alpaca rows, and packed
MIXED = {"step_tokens": 3260.0, "step_trained": 2473.0, "row_tokens": 260.0}
PACKED = {"step_tokens": 16_285.0, "step_trained": 12_260.0, "row_tokens": 300.0}


@pytest.mark.parametrize(
    ("batch", "settings", "measured"),
    [
        (MIXED, {}, 195),
        (MIXED, {"gradient_checkpointing": True}, 249),
        (MIXED, {"adapter": "full"}, 133),
        (MIXED, {"adapter": "qlora", "precision": "int4"}, 261),
        (PACKED, {}, 305),
        (PACKED, {"adapter": "full"}, 352),
    ],
)
def test_a_step_on_an_h200_takes_what_was_measured(batch, settings, measured):
    recipe = Recipe(**{"precision": "bf16", **settings})
    modelled = 1000 * step(Work(LLAMA_1B, recipe, H200, "cuda"), plan(**batch))
    assert modelled == pytest.approx(measured, rel=0.3)


def test_small_batches_on_a_gpu_wait_for_the_processor():
    work = Work(LLAMA_1B, Recipe(precision="bf16"), H200, "cuda")
    one, eight = (forward(work, Batch(200.0 * n, 100.0 * n, 200.0)) for n in (1, 8))
    assert eight == pytest.approx(one, rel=0.05)
