"""Rows in tiles: the same loss and gradients, less memory, nothing computed more often."""

import pytest
import torch
from allocator import peak_bytes
from peft import LoraConfig, get_peft_model

from trainer_backend.training.kernels.lora import quicken_lora
from trainer_backend.training.steps.tiled import in_tiles, tiled_layers

TOKENS, TILE = 100, 16
MODULES = ("norm", "input_layernorm", "post_attention_layernorm", "mlp")


def adapted(make_model, adapter: bool, dropout: float, **sizes):
    torch.manual_seed(3)
    model = make_model(**sizes)
    if not adapter:
        return model, model.train()
    config = LoraConfig(r=4, target_modules="all-linear", lora_dropout=dropout)
    config.init_lora_weights, config.task_type = False, "CAUSAL_LM"
    whole = get_peft_model(model, config)
    quicken_lora(whole)
    whole.enable_input_require_grads()
    return model, whole.train()


def trained(make_model, tile=0, checkpointing=False, adapter=True, dropout=0.0, autocast=False):
    """Loss, all gradients, and how often a perceptron was computed while there were gradients."""
    model, whole = adapted(make_model, adapter, dropout)
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    ids, calls = torch.arange(4, 4 + TOKENS)[None], []
    with tiled_layers(model, tile or 10**9) as names:
        model.model.layers[0].mlp.down_proj.register_forward_hook(lambda *_: calls.append(1))
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = whole(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
    assert set(names) == set(MODULES)
    assert all("forward" not in vars(one) for one in model.model.layers[0].children())
    grads = [one.grad.flatten() for one in whole.parameters() if one.grad is not None]
    return loss.detach(), torch.cat(grads), len(calls)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_loss_and_gradients_are_those_of_whole_rows(make_model, checkpointing, adapter, autocast):
    how = {"adapter": adapter, "autocast": autocast}
    loss, grads, _ = trained(make_model, **how)
    tiled, found, calls = trained(make_model, TILE, checkpointing, **how)
    tiles = -(-TOKENS // TILE)
    assert (
        calls == 2 * tiles
    )  # once forward, once in the backward pass: not again for checkpointing
    assert torch.allclose(tiled, loss, rtol=1e-6)
    assert (found - grads).norm() <= (2e-2 if autocast else 1e-6) * grads.norm()


def test_dropout_is_drawn_once_more_in_the_backward_pass(make_model):
    results = [trained(make_model, TILE, ck, dropout=0.4) for ck in (False, True)]
    assert torch.equal(results[0][1], results[1][1])
    rows, drop = torch.ones(1, 40, 3, requires_grad=True), torch.nn.Dropout(0.5)
    out = in_tiles(drop, rows, 7, drop)
    before = torch.get_rng_state()
    out.sum().backward()
    assert torch.equal(rows.grad, out.detach())  # the very numbers that were dropped
    assert torch.equal(torch.get_rng_state(), before)


def test_a_module_that_learns_nothing_and_rows_without_gradients(make_model):
    part = torch.nn.Linear(3, 5)
    rows = torch.randn(2, 9, 3)
    assert torch.allclose(in_tiles(part, rows, 4, part), part(rows))
    in_tiles(part, rows, 4, part).sum().backward()
    assert part.weight.grad.abs().sum() > 0
    with torch.no_grad():
        assert torch.allclose(in_tiles(part, rows, 4, part), part(rows))
    part.requires_grad_(False)
    assert not in_tiles(part, rows, 4, part).requires_grad


def test_what_mixes_tokens_or_gives_no_row_is_left_alone(make_model):
    class Mixing(torch.nn.Linear):
        def forward(self, rows):
            return super().forward(rows - rows.roll(1, dims=1))

    model = make_model()
    model.model.layers[1].mlp = Mixing(32, 32)
    model.model.layers[0].post_attention_layernorm.forward = lambda rows: (rows,)
    with tiled_layers(model, TILE):
        changed = [name for name, one in model.named_modules() if "forward" in vars(one)]
    assert "model.layers.1.mlp" not in changed and "model.layers.0.mlp" in changed
    assert "model.layers.0.self_attn" not in changed


def test_a_long_row_takes_a_fraction_of_the_memory(make_model):
    model, whole = adapted(make_model, True, 0.0, intermediate_size=512)
    model.activation_checkpointing_enable({"use_reentrant": False})
    ids = torch.zeros(1, 400, dtype=torch.int64)

    def step():
        hidden = whole.base_model.model.model(input_ids=ids, use_cache=False)[0]
        hidden.square().sum().backward()

    with tiled_layers(model, 10**9):
        usual = peak_bytes(step)
    with tiled_layers(model, TILE):
        tiled = peak_bytes(step)
    assert tiled < usual / 3
