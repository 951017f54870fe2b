"""What cannot be packed trains on padded batches of rows of similar length, and says so."""

import logging

import pytest
import transformers
from transformers import AutoModelForCausalLM

from trainer_backend import SFTConfig, SFTTrainer

SIZE = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
HYBRID = {
    "num_experts": 2,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "use_mamba_kernels": False,
}
FAMILIES = {
    "mamba": {**SIZE, "state_size": 4},
    "jamba": {**SIZE, **HYBRID, "intermediate_size": 48, "num_key_value_heads": 2},
    "falcon": {**SIZE, "alibi": False},
}  # fmt: skip


def row(number: int) -> dict:
    count = 3 + number * 11 % 40
    return {"input_ids": [5 + (number + at) % 300 for at in range(count)]}


def trainer(family: str, tokenizer, folder, **settings) -> SFTTrainer:
    config = transformers.AutoConfig.for_model(family, **FAMILIES[family])
    args = SFTConfig(
        output_dir=str(folder), per_device_train_batch_size=4, num_train_epochs=1, seed=3,
        report_to="none", bf16=False, logging_steps=1, **settings,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    rows = [row(number) for number in range(16)]
    return SFTTrainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_similar_length_share_a_padded_batch(family, tokenizer, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        found = trainer(family, tokenizer, tmp_path)
    assert "rows of similar length together" in caplog.text
    batches = [batch["attention_mask"] for batch in found.get_train_dataloader()]
    assert [len(batch) for batch in batches] == [4] * 4
    padding = sum(int((mask == 0).sum()) for mask in batches)
    lengths = sorted(len(row(number)["input_ids"]) for number in range(16))
    best = sum(4 * lengths[at + 3] - sum(lengths[at : at + 4]) for at in range(0, 16, 4))
    assert padding == best


def test_it_trains_and_an_order_that_was_asked_for_is_kept(tokenizer, tmp_path):
    found = trainer("mamba", tokenizer, tmp_path, train_sampling_strategy="sequential")
    first = next(iter(found.get_train_dataloader()))
    assert first["attention_mask"].sum(1).tolist() == [3, 14, 25, 36]
    grouped = trainer("mamba", tokenizer, tmp_path)
    grouped.train()
    assert grouped.state.global_step == 4
    assert all(entry["loss"] > 0 for entry in grouped.state.log_history if "loss" in entry)
