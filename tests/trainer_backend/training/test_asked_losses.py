"""Label smoothing and DFT in the trainer, against plain formulas; held-out rows are plain."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.tokens.encode import encode


def token_losses(model, tokenizer, rows, smoothing: float, dft: bool) -> torch.Tensor:
    """The loss of every trained token, row by row, by torch's own cross-entropy."""
    found = []
    for row in rows:
        example = {"prompt": row["prompt"], "completion": row["response"]}
        made = encode(example, tokenizer)
        logits = model(input_ids=torch.tensor([made.input_ids])).logits[0, :-1]
        targets = torch.tensor(made.labels[1:])
        logits, targets = logits[targets != -100], targets[targets != -100]
        loss = cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
        own = logits.softmax(-1).gather(1, targets[:, None])[:, 0].detach()
        found.append(loss * own if dft else loss)
    return torch.cat(found)


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize(
    ("settings", "smoothing", "dft"),
    [({"label_smoothing_factor": 0.2}, 0.2, False), ({"loss_type": "dft"}, 0.0, True)],
    ids=["smoothed", "dft"],
)
def test_the_loss_of_a_step_and_its_gradient(
    tmp_path, tiny_model, make_model, tokenizer, pairs, packing, settings, smoothing, dft
):
    rows = [{"prompt": one["prompt"], "completion": one["response"]} for one in pairs[:4]]
    fixed = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "bf16": False}
    args = SFTConfig(
        str(tmp_path),
        max_steps=1,
        logging_steps=1,
        learning_rate=0.0,
        per_device_train_batch_size=1 if packing else 2,
        gradient_accumulation_steps=2,
        max_length=60,
        packing=packing,
        **settings,
        **fixed,
    )
    trainer = SFTTrainer(
        tiny_model, args, train_dataset=rows, eval_dataset=rows, processing_class=tokenizer
    )
    trainer.train()
    logged = trainer.state.log_history[0]
    model = make_model()
    loss = token_losses(model, tokenizer, pairs[:4], smoothing, dft).mean()
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    assert logged["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert logged["grad_norm"] == pytest.approx(norm.item(), rel=1e-3)
    plain = token_losses(model, tokenizer, pairs[:4], 0.0, False).mean().item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(plain, rel=1e-4)
    assert logged["loss"] != pytest.approx(plain, rel=1e-3)
