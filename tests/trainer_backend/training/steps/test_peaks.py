"""What a long row really keeps, counted by the allocator, against the formula of memory."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from allocator import peak_bytes
from peft import LoraConfig, get_peft_model

from trainer_backend.estimation import memory
from trainer_backend.estimation.memory import Setup, trained_weights
from trainer_backend.estimation.plan import unknown_rows
from trainer_backend.estimation.shape import shape_of
from trainer_backend.hardware import Hardware
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.training.kernels import cpu_attention
from trainer_backend.training.kernels.attention import PER_DOCUMENT, document_layout
from trainer_backend.training.kernels.lora import quicken_lora
from trainer_backend.training.steps.offloading import Offloader, Pages
from trainer_backend.training.steps.tiled import tiled_layers

TOKENS, TILE = 1024, 128
# the ratios of an 8 B Llama, 1/32 as wide and 1/4 as deep
SIZES = {"hidden_size": 128, "intermediate_size": 448, "num_hidden_layers": 8, "vocab_size": 400}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 1, "max_position_embeddings": 2 * TOKENS}


class AtOnce:
    """Copies at once, within the same memory."""

    def copy(self, pairs):
        for target, source in pairs:
            target.copy_(source)

    def wait(self, ticket):
        """Nothing is under way."""


def measured(
    make_model, tokens: int, half: bool, checkpointing: bool, tiled: bool, offloads: bool
) -> int:
    """Bytes of a forward and a backward pass through the layers, without those moved away."""
    model = make_model(**SIZES)
    model.set_attn_implementation(PER_DOCUMENT)
    model = model.to(torch.bfloat16) if half else model
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    whole = get_peft_model(model, config).train()
    quicken_lora(whole)
    whole.enable_input_require_grads()
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    pages = Pages(pinned=False, size=1 << 16)
    around = Offloader(AtOnce(), pages, "cpu", 1 << 16).around() if offloads else nullcontext()
    ids = torch.zeros(1, tokens, dtype=torch.int64)

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            hidden = model.model(input_ids=ids, use_cache=False)[0]
        hidden.backward(torch.ones_like(hidden))

    with tiled_layers(model, TILE if tiled else 10**9), document_layout([tokens]), around:
        peak = peak_bytes(step)
    return peak - pages.made * pages.size


def told(tokens: int, half: bool, checkpointing: bool, tiled: bool, offloads: bool) -> float:
    """What the formula says of the same on a GPU, where no heap grows."""
    recipe = Recipe(
        precision="bf16" if half else "fp32",
        lora_r=4,
        gradient_checkpointing=checkpointing,
        activation_offloading=offloads,
    )
    plan = replace(unknown_rows(recipe), row_tokens=float(tokens), longest_batch=tokens)
    shape = shape_of({"model_type": "llama", "tie_word_embeddings": False, **SIZES})
    machine = Hardware("cuda", "one", 1, 80.0, 80.0, 8, True)
    setup = Setup(shape, recipe, machine, plan, tiled=tiled)
    parts = memory._forward(setup, trained_weights(shape, recipe), tokens, tokens)
    return parts["activations"]


@pytest.mark.parametrize(
    ("half", "way", "most"),
    [
        (False, (False, False, False), 1.1),
        (False, (True, False, False), 1.3),
        (True, (True, True, False), 1.2),
        (True, (True, True, True), 1.2),
    ],
    ids=["all", "checkpointing", "tiles", "offloading"],
)
def test_the_formula_is_on_the_safe_side_of_the_peak_and_near_it(
    make_model, monkeypatch, half, way, most
):
    monkeypatch.setattr(memory, "TILE", TILE)
    monkeypatch.setattr(cpu_attention, "LONGEST_DENSE", 0)  # as on a GPU, and for longer rows
    # of two lengths: gradients and copies of adapters do not grow with the row
    peaks = [measured(make_model, n, half, *way) for n in (TOKENS, 2 * TOKENS)]
    sums = [told(n, half, *way) for n in (TOKENS, 2 * TOKENS)]
    peak, said = peaks[1] - peaks[0], sums[1] - sums[0]
    assert peak <= said <= most * peak, (peaks, sums)
