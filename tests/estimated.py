"""Shapes, plans and timings for the tests of the estimated time."""

from dataclasses import replace

from trainer_backend.estimation.device import machine_key
from trainer_backend.estimation.plan import Plan
from trainer_backend.estimation.shape import Shape, shape_of
from trainer_backend.estimation.timing import Timing
from trainer_backend.hardware import Hardware
from trainer_backend.recipe import Recipe


def shape(layers: int, hidden: int, intermediate: int, heads: int, kv: int, vocab: int) -> Shape:
    """The shape of a Llama with tied embeddings."""
    found = shape_of(
        {
            "model_type": "llama",
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "intermediate_size": intermediate,
            "num_attention_heads": heads,
            "num_key_value_heads": kv,
            "vocab_size": vocab,
            "tie_word_embeddings": True,
        }
    )
    assert found is not None
    return found


SMOL = shape(30, 576, 1536, 9, 3, 49152)  # SmolLM2-135M
LLAMA_1B = shape(16, 2048, 8192, 32, 8, 128256)  # Llama-3.2-1B
CPU = Hardware("cpu", "CPU", 1, 24.0, 20.0, 2, True)
H200 = Hardware("cuda", "NVIDIA H200", 1, 140.0, 139.0, 16, True)
SETTLED = Recipe(precision="bf16", answer_check_rows=20)


def plan(**changes) -> Plan:
    """Ten steps of eight rows of 100 tokens, evaluated and saved twice."""
    usual = Plan(
        rows=80,
        steps=10,
        micro_batches=1,
        step_tokens=800.0,
        step_trained=300.0,
        row_tokens=100.0,
        longest_row=200,
        longest_batch=1400,
        longest_trained=500,
        eval_runs=2,
        eval_tokens=1000,
        eval_trained=400,
        saves=2,
        answer_rows=20,
        answer_tokens=40.0,
        prompt_tokens=60.0,
        longest_answer=60,
        answer_limit=82,
        loss_groups=10,
    )
    return replace(usual, **changes)


def timing(machine: Hardware = CPU, recipe: Recipe = SETTLED, **seconds: float) -> Timing:
    """A timing of that plan with SmolLM2-135M."""
    return Timing(machine_key(machine), recipe.to_dict(), SMOL, plan(), seconds)
