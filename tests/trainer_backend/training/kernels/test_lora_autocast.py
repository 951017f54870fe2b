"""Autocast is left where a probe on the model finds the same to the bit, and stays elsewhere."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from tests.trainer_backend.training.test_families import FAMILIES
from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.training.adapters import prepare_trainable
from trainer_backend.training.capabilities import causal_lm, examine
from trainer_backend.training.kernels.lora_autocast import (
    agrees_with_peft,
    leaving_autocast_agrees,
    settle_lora,
)
from trainer_backend.training.kernels.lora_product import writes_float32

IDS = torch.arange(4, 44)[None]


class Thrice(torch.nn.Module):
    """An activation that autocast computes in float32."""

    def forward(self, x):
        return torch.prod(torch.stack([x, torch.sigmoid(x), 1 + x]), 0)


def ready(make_model, tmp_path, change=None, **settings):
    """A bf16 base with an adapter, examined as the trainer does; the sentences that were told."""
    model = make_model().to(torch.bfloat16)
    torch.manual_seed(3)
    usual = {"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    model = get_peft_model(model, LoraConfig(**{**usual, "init_lora_weights": False, **settings}))
    if change is not None:
        change(model)
    args = SFTConfig(output_dir=str(tmp_path), bf16=True, report_to=[], use_cpu=True)
    quick = prepare_trainable(model, args)
    examine(model, args)
    told = []
    settle_lora(quick, model, args, told.append)
    return model.train(), quick, told


def autocast_inside(model) -> bool:
    seen = []
    mlp = causal_lm(model).model.layers[0].mlp
    hook = mlp.register_forward_pre_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    with torch.autocast("cpu", torch.bfloat16):
        model(input_ids=IDS, use_cache=False)
        assert torch.is_autocast_enabled("cpu")
    hook.remove()
    return seen[0]


def test_autocast_is_left_while_training_only(make_model, tmp_path):
    model, quick, told = ready(make_model, tmp_path)
    assert quick.spares is torch.bfloat16
    assert not autocast_inside(model)
    assert autocast_inside(model.eval())
    with torch.no_grad():
        assert autocast_inside(model.train())
    (sentence,) = told
    assert "without autocast" in sentence
    assert "q_proj, k_proj, v_proj" in sentence


def thrice(model):
    for layer in causal_lm(model).model.layers:
        layer.mlp.act_fn = Thrice()


def float_norm(model):
    causal_lm(model).model.norm.float()


def norm_learns(model):
    causal_lm(model).model.norm.weight.requires_grad_()


@pytest.mark.parametrize("change", [thrice, float_norm, norm_learns])
def test_autocast_stays_where_it_does_something(make_model, tmp_path, change):
    model, quick, told = ready(make_model, tmp_path, change)
    assert quick.spares is None
    assert autocast_inside(model)
    assert "without autocast" not in told[0]


@pytest.mark.parametrize(
    "settings", [{"modules_to_save": ["lm_head"]}, {"trainable_token_indices": [5]}], ids=str
)
def test_autocast_stays_where_more_than_plain_adapters_learns(make_model, tmp_path, settings):
    _, quick, _ = ready(make_model, tmp_path, **settings)
    assert quick.spares is None


def test_an_interrupted_pass_leaves_autocast_as_it_was(make_model, tmp_path):
    model, _, _ = ready(make_model, tmp_path)

    def refuse(*_):
        raise RuntimeError("out of memory")

    hook = causal_lm(model).model.layers[1].register_forward_pre_hook(refuse)
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError, match="out of memory"):
            model(input_ids=IDS)
        assert torch.is_autocast_enabled("cpu")
    hook.remove()
    assert not autocast_inside(model)


def test_layers_that_compute_something_else_are_noticed(make_model, tmp_path, monkeypatch):
    model, quick, _ = ready(make_model, tmp_path)
    assert agrees_with_peft(quick, model, torch.bfloat16)
    right = quick._alone
    monkeypatch.setattr(quick, "_alone", lambda layer, x: 2 * right(layer, x))
    assert not agrees_with_peft(quick, model, torch.bfloat16)
    assert not quick.off


def test_the_probe_leaves_no_trace(make_model, tmp_path):
    model, quick, _ = ready(make_model, tmp_path, lora_dropout=0.3)
    model.eval()
    before = torch.get_rng_state()
    assert leaving_autocast_agrees(quick, model)
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


def test_the_trainer_says_how_it_computes(make_model, tokenizer, pairs, tmp_path):
    rows = [{"prompt": row["prompt"], "completion": row["response"]} for row in pairs]
    trainer = SFTTrainer(
        make_model().to(torch.bfloat16),
        SFTConfig(output_dir=str(tmp_path), bf16=True, max_steps=2, report_to=[], use_cpu=True),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    seen = []
    mlp = causal_lm(trainer.model).model.layers[0].mlp
    mlp.register_forward_pre_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    trainer.train()
    assert seen == [False, False]
    assert any("without autocast" in sentence for sentence in trainer.paths.sentences)


def of_family(family: str, dtype: torch.dtype, device: str = "cpu"):
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **FAMILIES[family])
    base = AutoModelForCausalLM.from_config(config).to(torch.bfloat16).to(dtype).to(device)
    torch.manual_seed(1)
    names = {"target_modules": "all-linear", "task_type": "CAUSAL_LM", "init_lora_weights": False}
    return get_peft_model(base, LoraConfig(r=4, lora_alpha=8, **names)).train()


def gradients(model, halved: bool) -> torch.Tensor:
    ids = (torch.arange(60)[None] * 7 % 110 + 3).to(model.device)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=halved):
        logits = model(input_ids=ids, use_cache=False).logits.float()
    torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:]).backward()
    found = [p.grad.flatten().float() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return torch.cat(found)


def expect_no_more_noise(family: str, device: str, tmp_path):
    wanted = gradients(of_family(family, torch.float32, device), False)
    usual = gradients(of_family(family, torch.bfloat16, device), True)
    model = of_family(family, torch.bfloat16, device)
    args = SFTConfig(output_dir=str(tmp_path), bf16=True, report_to=[], use_cpu=device == "cpu")
    quick = prepare_trainable(model, args)
    examine(model, args)
    settle_lora(quick, model, args, lambda _: None)
    assert not quick.off
    assert quick.spares is torch.bfloat16
    error, noise = ((g - wanted).norm() for g in (gradients(model.train(), True), usual))
    assert error <= 1.3 * noise


@pytest.mark.parametrize("family", ["gemma2", "phi", "opt", "olmo2", "qwen2_moe", "bloom"])
def test_families_lose_nothing_outside_autocast(family, tmp_path):
    expect_no_more_noise(family, "cpu", tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3", "olmo2"])
def test_families_lose_nothing_outside_autocast_on_a_gpu(family, tmp_path):
    assert writes_float32("cuda", torch.bfloat16)
    expect_no_more_noise(family, "cuda", tmp_path)
