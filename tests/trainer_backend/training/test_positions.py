"""Rows beyond a model's positions are refused before the first step, in words and with rows."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.data.checks import content_findings
from trainer_backend.tokens.refusals import RowsRefused


def gpt2(positions: int):
    torch.manual_seed(0)
    size = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": positions}
    return GPT2LMHeadModel(GPT2Config(vocab_size=400, **size, bos_token_id=0, eos_token_id=2))


def build(tmp_path, model, tokenizer, rows, eval_dataset=None, **settings) -> SFTTrainer:
    fixed = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "bf16": False}
    args = SFTConfig(str(tmp_path), max_steps=1, **fixed, **settings)
    return SFTTrainer(
        model, args, train_dataset=rows, eval_dataset=eval_dataset, processing_class=tokenizer
    )


ROWS = [{"text": "Hi."}, {"text": "Count. " * 30}, {"text": "Yes."}, {"text": "Count. " * 40}]


@pytest.mark.parametrize("packing", [False, True])
def test_rows_beyond_the_table_are_refused(tmp_path, tokenizer, packing):
    with pytest.raises(RowsRefused, match="longer than the 64 positions") as caught:
        build(tmp_path, gpt2(64), tokenizer, ROWS, packing=packing)
    error = caught.value
    assert error.rows == {"train": [1, 3]} and "2" in error.where and "4" in error.where
    assert "Maximum length" in error.fix and error.code == "no_positions"
    assert error.offer["retry"] == {"max_length": 64}
    trainer = build(tmp_path, gpt2(64), tokenizer, ROWS, packing=packing, max_length=64)
    trainer.train()


def test_short_rows_packed_beyond_the_table_train(tmp_path, tokenizer):
    rows = [{"text": "Paris is the capital."}] * 20
    trainer = build(tmp_path, gpt2(64), tokenizer, rows, packing=True, max_length=200)
    assert max(map(len, trainer.train_dataset["input_ids"])) > 64
    trainer.train()


def test_held_out_rows_are_refused_too(tmp_path, tokenizer):
    with pytest.raises(RowsRefused) as caught:
        build(tmp_path, gpt2(64), tokenizer, ROWS[:1], ROWS)
    assert caught.value.rows == {"eval": [1, 3]} and caught.value.offer["retry"]["max_length"] == 64


def test_rows_beyond_the_trained_length_are_warned_about(tmp_path, tokenizer, make_model, caplog):
    model = make_model(max_position_embeddings=64)
    trainer = build(tmp_path, model, tokenizer, ROWS)
    flags = trainer.data_counts["train"].content
    ((kind, rows),) = [one for one in content_findings(flags) if one[0].code == "beyond_trained"]
    assert rows.tolist() == [False, True, False, True]
    assert kind.severity == "warning" and "fewer tokens than rows 2 and 4 have" in caplog.text
    caplog.clear()
    build(tmp_path, make_model(max_position_embeddings=512), tokenizer, ROWS)
    assert "was trained to read" not in caplog.text
