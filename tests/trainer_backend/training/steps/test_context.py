"""Rows shared by two processes (gloo, on the CPU): the losses are those of one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.training.kernels import shared_attention as shared
from trainer_backend.training.kernels.attention import document_layout, per_document_attention
from trainer_backend.training.kernels.shared_attention import Share, shared_row, sizes
from trainer_backend.training.steps.context import OWN_TOKENS, cut, pieces_of

ROOT = Path(__file__).resolve().parents[4]
SCRIPT = """
import json, sys
from peft import LoraConfig
from trainer_backend import SFTConfig, SFTTrainer

folder, out, batch, settings = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
rows = [{"prompt": "Who " * n, "response": "Paris. " * (9 - n)} for n in range(1, 9)]
adapter = settings.pop("adapter", False)
lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM") if adapter else None
args = SFTConfig(out, per_device_train_batch_size=batch, max_steps=4, logging_steps=1, seed=1,
                 learning_rate=1e-2, report_to="none", save_strategy="no", disable_tqdm=True,
                 **settings)
trainer = SFTTrainer(folder, args, train_dataset=rows, peft_config=lora)
trainer.train()
if trainer.is_world_process_zero():
    log = [row for row in trainer.state.log_history if "loss" in row]
    keys = ("loss", "grad_norm", "mean_token_accuracy", "entropy", "num_tokens")
    json.dump([[row[k] for k in keys] for row in log], open(out + ".json", "w"))
"""
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
LAUNCH += ["--num_processes", "2", "--main_process_port", "0"]


@pytest.mark.slow
def test_two_processes_that_share_rows_give_the_losses_of_one(tmp_path, tiny_model_dir):
    settings = {"gradient_checkpointing": True, "adapter": True, "gradient_accumulation_steps": 2}
    (tmp_path / "train.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    started = {}
    for name, launch, batch, more in (
        ("one", [sys.executable], 4, {}),
        ("two", LAUNCH, 2, {"context_parallel": True}),
    ):
        arguments = [str(tiny_model_dir), str(tmp_path / name), str(batch)]
        arguments += [json.dumps(settings | more)]
        command = [*launch, str(tmp_path / "train.py"), *arguments]
        started[name] = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment
        )
    for process in started.values():
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors[-3000:]
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert len(one) == 4
    for found, expected in zip(two, one, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.fixture
def alone():
    """A group of one process, without a network."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("window", [0, 5])
@pytest.mark.parametrize("block", [1024, 3])
def test_a_row_in_pieces_attends_as_a_whole_one(alone, monkeypatch, window, block):
    monkeypatch.setattr(shared, "BLOCK", block)
    torch.manual_seed(0)
    lengths = (3, 14, 1, 9)
    tokens = sum(lengths)
    rows = [torch.randn(1, heads, tokens, 8, requires_grad=True) for heads in (4, 2, 2)]
    mask = torch.tensor([window, *lengths], dtype=torch.int32)
    whole, _ = per_document_attention(None, *rows, mask)
    expected = torch.autograd.grad(whole.square().sum(), rows)
    share = Share(0, (tuple(sorted(sum(pieces_of(tokens, 3), ()))),), lengths)
    longer = [torch.nn.functional.pad(one, (0, 0, 0, 1)) for one in rows]
    with shared_row(share), document_layout([tokens + 1]):
        out, _ = per_document_attention(
            None, *longer, torch.tensor([window, tokens + 1], dtype=torch.int32)
        )
    assert torch.allclose(out[:, :-1], whole, atol=1e-6) and not out[:, -1].any()
    found = torch.autograd.grad(out.square().sum(), rows)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 3, 16, 37])
def test_the_parts_of_a_row_have_every_token_and_its_label_once(tokens):
    batch = {
        "input_ids": torch.arange(tokens)[None] + 100,
        "labels": torch.arange(tokens)[None] + 100,
        "position_ids": torch.arange(tokens)[None],
        "seq_lengths": [tokens],
    }
    seen = []
    for rank in range(3):
        share, part = cut(batch, rank, 3)
        assert sizes(share.parts)[rank] == part[OWN_TOKENS] == part["input_ids"].shape[1] - 1
        ids, following = part["input_ids"][0, :-1].tolist(), part["labels"][0, 1:].tolist()
        seen += list(zip(ids, following, strict=True))
    wanted = [(100 + n, 101 + n if n < tokens - 1 else -100) for n in range(tokens)]
    assert sorted(seen) == wanted
    assert sum(sizes(share.parts)) == tokens


def test_what_cannot_be_shared_is_refused_with_the_reason(tmp_path, tiny_model, tokenizer, pairs):
    args = SFTConfig(str(tmp_path), context_parallel=True, report_to="none", bf16=False)
    trainer = SFTTrainer(tiny_model, args, None, pairs, processing_class=tokenizer)
    with pytest.raises(ValueError, match="two or more processes"):
        trainer.train()
