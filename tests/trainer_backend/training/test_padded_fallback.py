"""What cannot be packed trains on padded batches of rows of similar length, and says so."""

import logging

import pytest
import transformers
from mixing_model import mixing_model
from transformers import AutoModelForCausalLM

from trainer_backend import SFTConfig, SFTTrainer

SIZE = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
HYBRID = {
    "num_experts": 2,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "use_mamba_kernels": False,
}
STATE_SPACE = {
    "mamba": {**SIZE, "state_size": 4},
    "jamba": {**SIZE, **HYBRID, "intermediate_size": 48, "num_key_value_heads": 2},
}
NOTICE = "rows of similar length together"


def row(number: int) -> dict:
    count = 3 + number * 11 % 40
    return {"input_ids": [5 + (number + at) % 300 for at in range(count)]}


def state_space(family: str):
    config = transformers.AutoConfig.for_model(family, **STATE_SPACE[family])
    return AutoModelForCausalLM.from_config(config)


def trainer(model, tokenizer, folder, **settings) -> SFTTrainer:
    args = SFTConfig(
        output_dir=str(folder), per_device_train_batch_size=4, num_train_epochs=1, seed=3,
        report_to="none", bf16=False, logging_steps=1, **settings,
    )  # fmt: skip
    rows = [row(number) for number in range(16)]
    return SFTTrainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer)


def expect_rows_of_similar_length(found: SFTTrainer) -> None:
    batches = [batch["attention_mask"] for batch in found.get_train_dataloader()]
    assert [len(batch) for batch in batches] == [4] * 4
    padding = sum(int((mask == 0).sum()) for mask in batches)
    lengths = sorted(len(row(number)["input_ids"]) for number in range(16))
    best = sum(4 * lengths[at + 3] - sum(lengths[at : at + 4]) for at in range(0, 16, 4))
    assert padding == best


def expect_four_steps(found: SFTTrainer) -> None:
    found.train()
    assert found.state.global_step == 4
    losses = [entry["loss"] for entry in found.state.log_history if "loss" in entry]
    assert len(losses) == 4 and all(loss > 0 for loss in losses)


def test_rows_of_similar_length_share_a_padded_batch(tokenizer, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        found = trainer(mixing_model(), tokenizer, tmp_path)
    assert NOTICE in caplog.text
    expect_rows_of_similar_length(found)
    expect_four_steps(found)


@pytest.mark.parametrize("family", STATE_SPACE)
def test_a_state_space_model_trains_padded_unless_it_packs(family, tokenizer, tmp_path, caplog):
    """Should a newer transformers keep its examples apart, then no batch is padded."""
    with caplog.at_level(logging.WARNING):
        found = trainer(state_space(family), tokenizer, tmp_path)
    if NOTICE in caplog.text:
        expect_rows_of_similar_length(found)
    else:
        assert all("attention_mask" not in batch for batch in found.get_train_dataloader())
    expect_four_steps(found)


def test_an_order_that_was_asked_for_is_kept(tokenizer, tmp_path):
    sequential = {"train_sampling_strategy": "sequential"}
    found = trainer(mixing_model(), tokenizer, tmp_path, **sequential)
    first = next(iter(found.get_train_dataloader()))
    assert first["attention_mask"].sum(1).tolist() == [3, 14, 25, 36]
