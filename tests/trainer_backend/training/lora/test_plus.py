"""LoRA+: B matrices learn faster, with every optimizer, and everything else stays."""

import pytest
import torch
from peft import LoraConfig

from trainer_backend import SFTConfig, SFTTrainer


def trainer(tmp_path, model, tokenizer, rows, adapter=True, **settings) -> SFTTrainer:
    fixed = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "bf16": False}
    usual = {"loraplus_lr_ratio": 16.0, "learning_rate": 1e-3, "logging_steps": 1, "max_steps": 2}
    config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", use_dora=True)
    return SFTTrainer(
        model,
        SFTConfig(str(tmp_path), **{**usual, **fixed, **settings}),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=config if adapter else None,
    )


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_bnb_8bit", "adafactor"])
def test_b_matrices_have_groups_of_their_own(tmp_path, tiny_model, tokenizer, pairs, optim):
    made = trainer(tmp_path, tiny_model, tokenizer, pairs, optim=optim, weight_decay=0.1)
    optimizer = made.create_optimizer()
    names = {id(one): name for name, one in made.model.named_parameters()}
    rates, decays = {}, {}
    for group in optimizer.param_groups:
        for one in group["params"]:
            name = names.pop(id(one))
            rates[name], decays[name] = group["lr"], group["weight_decay"]
    assert not [name for name in names.values() if "lora" in name]  # each is in one group
    assert len(rates) == 3 * 14
    for name, rate in rates.items():
        assert rate == pytest.approx(16e-3 if ".lora_B." in name else 1e-3), name
        assert decays[name] == 0.1
    made.train()
    logged = [row["learning_rate"] for row in made.state.log_history if "learning_rate" in row]
    assert logged == pytest.approx([1e-3, 5e-4])  # the base rate, by the schedule
    ends = {group["initial_lr"]: group["lr"] for group in made.optimizer.param_groups}
    assert ends == {1e-3: 0.0, 16e-3: 0.0}


def test_the_first_step_of_b_is_as_many_times_larger(tmp_path, make_model, tokenizer, pairs):
    moved = []
    for ratio in (0.0, 16.0):
        one = trainer(
            tmp_path, make_model(), tokenizer, pairs, max_steps=1, loraplus_lr_ratio=ratio
        )
        one.train()
        weights = dict(one.model.named_parameters())
        moved.append(torch.cat([p.flatten() for n, p in weights.items() if ".lora_B." in n]))
    assert torch.allclose(moved[1], 16 * moved[0], rtol=1e-4, atol=1e-9)


def test_a_model_without_an_adapter_is_refused(tmp_path, tiny_model, tokenizer, pairs):
    made = trainer(tmp_path, tiny_model, tokenizer, pairs, adapter=False)
    with pytest.raises(ValueError, match="no LoRA adapter"):
        made.create_optimizer()


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_bnb_8bit"])
def test_betas_and_epsilon_reach_the_optimizer(tmp_path, tiny_model, tokenizer, pairs, optim):
    settings = {"adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": 1e-6, "optim": optim}
    made = trainer(tmp_path, tiny_model, tokenizer, pairs, **settings)
    for group in made.create_optimizer().param_groups:
        assert tuple(group["betas"]) == (0.8, 0.95) and group["eps"] == 1e-6
