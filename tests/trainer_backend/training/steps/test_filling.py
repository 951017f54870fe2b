"""Rows filled to few lengths: the same loss, gradients and counts as without filler."""

import pytest
import torch
from bookkept import trainer
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from trainer_backend import SFTConfig
from trainer_backend.tokens.collator import SFTCollator
from trainer_backend.tokens.packing import filled_length
from trainer_backend.training.steps.filling import FILLED, Filling, Row, fills_rows

SIZES = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "pad_token_id": 3,
}
NARROW = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 400}
ATTENTIONS = {
    "window": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=4)),
    "soft-capped": lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8, sliding_window=4)),
    "learned positions": lambda: GPT2LMHeadModel(
        GPT2Config(**NARROW, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    ),
}


def test_lengths_are_few_and_the_filler_is_small():
    lengths = {filled_length(n) for n in range(1024, 2048)}
    assert lengths == {1024 + 64 * n for n in range(17)}
    assert all(n <= filled_length(n) <= n * 17 / 16 for n in range(128, 5000))
    assert [filled_length(n) for n in (1, 8, 9, 127, 4097)] == [8, 8, 16, 128, 4352]


def test_filler_follows_as_documents_without_labels_or_new_positions():
    batch = SFTCollator(0, padding_free=True)([{"input_ids": [5] * n} for n in (4, 3, 4)])
    labels, lengths = batch.pop("labels"), batch.pop("seq_lengths")
    filled = Filling(7).fill(Row(batch, labels, lengths))
    assert filled.lengths == [4, 3, 4, 4, 1]
    assert filled.inputs["input_ids"].tolist() == [[5] * 11 + [7] * 5]
    assert filled.inputs["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2, *[0, 1, 2, 3] * 2, 0]]
    assert filled.labels[:, :11].equal(labels) and (filled.labels[:, 11:] == -100).all()


@pytest.mark.parametrize(
    ("inputs", "lengths"),
    [
        ({"attention_mask": torch.ones(1, 11)}, None),
        ({"pixel_values": torch.ones(1, 3)}, [11]),
        ({}, []),
    ],
)
def test_other_batches_stay_as_they_are(inputs, lengths):
    ids = torch.ones(1, 11, dtype=torch.long)
    row = Row({"input_ids": ids, "position_ids": ids, **inputs}, ids, lengths)
    assert Filling(0).fill(row) is row


def logged(run) -> list[dict]:
    kept = ("loss", "grad_norm", "num_tokens", "entropy", "mean_token_accuracy")
    return [{k: row[k] for k in kept if k in row} for row in run.state.log_history[:-1]]


@pytest.mark.parametrize("attention", ["full", *ATTENTIONS])
def test_losses_and_gradients_are_those_of_rows_without_filler(
    tmp_path, make_model, tokenizer, attention
):
    def model():
        torch.manual_seed(0)
        return make_model() if attention == "full" else ATTENTIONS[attention]()

    plain, filled = (
        trainer(tmp_path, model(), tokenizer, lora=False, max_steps=2, fill_rows=fill)
        for fill in (False, True)
    )
    assert (plain.paths.sentences, filled.paths.sentences) == ([], [FILLED])
    seen = []
    filled.model.get_input_embeddings().register_forward_hook(
        lambda _, given, out: seen.append(out.shape[1])
    )
    for one in (plain, filled):
        one.train()
    assert seen and all(n == filled_length(n) for n in seen)
    for ours, theirs in zip(logged(filled), logged(plain), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    assert logged(filled)[-1]["num_tokens"] == logged(plain)[-1]["num_tokens"] < sum(seen)
    assert filled.state.total_flos == plain.state.total_flos


def test_a_router_that_is_balanced_sees_no_filler(tmp_path, tokenizer):
    model = MixtralForCausalLM(
        MixtralConfig(**SIZES, num_local_experts=4, output_router_logits=True)
    )
    run = trainer(tmp_path, model, tokenizer, lora=False, fill_rows=True)
    assert run.aux_loss_enabled and run._filling is None and run.paths.sentences == []


def test_rows_are_filled_on_cuda_by_itself_and_elsewhere_on_request(tmp_path):
    quiet, asked, refused = (SFTConfig(str(tmp_path), fill_rows=one) for one in (None, True, False))
    assert fills_rows(quiet, "cuda", False, False) and not fills_rows(quiet, "cpu", False, False)
    assert fills_rows(asked, "cpu", False, False) and not fills_rows(refused, "cuda", False, False)
    assert not fills_rows(asked, "cuda", True, False)
    assert not fills_rows(asked, "cuda", False, True)
    noisy = SFTConfig(str(tmp_path), neftune_noise_alpha=5.0)
    assert not fills_rows(noisy, "cuda", False, False)
