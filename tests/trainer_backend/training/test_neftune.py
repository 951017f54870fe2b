"""Noise on embeddings: by the length of each document, in training alone."""

import pytest
import torch

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.training.neftune import noise_by_length, noisy_embeddings

ALPHA, WIDTH = 5.0, 64


def noise(rows, tokens, lengths=None, mask=None) -> torch.Tensor:
    embedding = torch.nn.Embedding(4, WIDTH)
    torch.nn.init.zeros_(embedding.weight)
    with noisy_embeddings(embedding, ALPHA), noise_by_length(lengths, mask):
        return embedding(torch.zeros(rows, tokens, dtype=torch.long)).detach()


def near_bound(values: torch.Tensor, length: int) -> bool:
    """Whether values fill ±alpha / sqrt(length · width), as uniform noise does."""
    bound = ALPHA / (length * WIDTH) ** 0.5
    return bool(0.9 * bound < values.abs().max() <= bound)


def test_joined_documents_have_each_their_own_bound():
    made = noise(1, 109, lengths=[100, 9])
    assert near_bound(made[:, :100], 100) and near_bound(made[:, 100:], 9)
    assert made.unique().numel() > 1000


def test_padding_does_not_count():
    mask = torch.tensor([[1] * 40, [1] * 10 + [0] * 30])
    made = noise(2, 40, mask=mask)
    assert near_bound(made[0], 40) and near_bound(made[1], 10)
    assert near_bound(noise(2, 40), 40)


def test_there_is_none_in_evaluation_and_none_without_alpha():
    embedding = torch.nn.Embedding(4, WIDTH).eval()
    ids = torch.tensor([[1, 2, 3]])
    with noisy_embeddings(embedding, ALPHA):
        assert torch.equal(embedding(ids), embedding.weight[ids])
    with noisy_embeddings(embedding.train(), 0.0):
        assert torch.equal(embedding(ids), embedding.weight[ids])


@pytest.mark.parametrize("packing", [False, True])
def test_training_is_noisy_and_evaluation_is_not(tmp_path, make_model, tokenizer, pairs, packing):
    found = []
    for alpha in (None, 50.0):
        fixed = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "bf16": False}
        args = SFTConfig(
            str(tmp_path),
            max_steps=1,
            learning_rate=0.0,
            packing=packing,
            neftune_noise_alpha=alpha,
            **fixed,
        )
        trainer = SFTTrainer(
            make_model(), args, train_dataset=pairs, eval_dataset=pairs, processing_class=tokenizer
        )
        trainer.train()
        trained = trainer.state.log_history[-1]["train_loss"]
        found.append((trained, trainer.evaluate()["eval_loss"]))
        assert not trainer.model.get_input_embeddings()._forward_hooks
    (plain, held_out), (noisy, held_out_too) = found
    assert abs(noisy - plain) > 1e-3 and held_out_too == pytest.approx(held_out, abs=1e-6)
