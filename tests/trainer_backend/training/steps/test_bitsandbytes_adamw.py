"""8-bit AdamW that does not wait for the GPU after each weight."""

import pytest
import torch
from bitsandbytes.optim import AdamW
from bitsandbytes.optim.optimizer import Optimizer8bit
from peft import LoraConfig

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.recipe.presets import recipe_from
from trainer_backend.training.steps.bitsandbytes_adamw import PromptAdamW, unwaiting


def stepped(kind, steps: int = 4) -> list[torch.Tensor]:
    """Weights after some steps: one with 8-bit state, a small one in 32 bits, one without grad."""
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(n, 64)) for n in (128, 4, 4)]
    optimizer = kind(weights, lr=1e-2, optim_bits=8)
    for _ in range(steps):
        for weight in weights[:2]:
            weight.grad = torch.randn_like(weight)
        optimizer.step()
    assert optimizer.state[weights[0]]["state1"].dtype == torch.uint8
    return [one.detach() for one in weights]


def test_the_update_is_the_librarys_without_its_waits(monkeypatch):
    waits = []
    monkeypatch.setattr("bitsandbytes.optim.optimizer.sync_gpu", waits.append)
    theirs = stepped(AdamW)
    assert len(waits) == 8  # two weights, four steps
    ours = stepped(PromptAdamW)
    assert len(waits) == 8
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


def test_paged_state_and_other_optimizers_are_left_alone():
    assert unwaiting((AdamW, {"is_paged": True})) == (AdamW, {"is_paged": True})
    assert unwaiting((torch.optim.AdamW, {})) == (torch.optim.AdamW, {})
    assert unwaiting((AdamW, {"is_paged": False, "lr": 1})) == (
        PromptAdamW,
        {"is_paged": False, "lr": 1},
    )


@pytest.mark.parametrize("optim", [recipe_from("low_memory").optim, "paged_adamw_8bit"])
def test_an_adapter_trains_unpaged_unless_paging_was_chosen(
    tmp_path, make_model, tokenizer, pairs, optim
):
    args = SFTConfig(str(tmp_path), optim=optim, bf16=False, report_to="none", save_strategy="no")
    adapter = LoraConfig(modules_to_save=["embed_tokens"], task_type="CAUSAL_LM")
    run = SFTTrainer(
        make_model(), args, train_dataset=pairs, processing_class=tokenizer, peft_config=adapter
    )
    optimizer = run.create_optimizer()
    assert isinstance(optimizer, Optimizer8bit)
    assert optimizer.is_paged is (optim == "paged_adamw_8bit")
    assert (type(optimizer) is PromptAdamW) is not optimizer.is_paged
    optimizer.check_overrides()
    bits = {
        optimizer.get_config(g, i, group)["optim_bits"]
        for g, group in enumerate(optimizer.param_groups)
        for i, weight in enumerate(group["params"])
        if weight is run.model.get_input_embeddings().weight
    }
    assert bits == {32}  # Trainer keeps embeddings precise
