"""Two processes (gloo, on the CPU) train as one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import json, os, sys
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trainer_backend import SFTConfig, SFTTrainer

folder, out, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
rows = [{"prompt": "Who " * n, "response": "Paris. " * (5 - n)} for n in range(1, 5)] * 2
args = SFTConfig(out, per_device_train_batch_size=batch, per_device_eval_batch_size=batch,
                 max_steps=3, logging_steps=1, learning_rate=1e-2, report_to="none",
                 save_strategy="no", use_cpu=True, bf16=False, disable_tqdm=True,
                 train_sampling_strategy="sequential",
                 ddp_backend="gloo" if "LOCAL_RANK" in os.environ else None)
trainer = SFTTrainer(AutoModelForCausalLM.from_pretrained(folder), args, train_dataset=rows,
                     eval_dataset=rows[:4], processing_class=AutoTokenizer.from_pretrained(folder))
trainer.train()
found = trainer.evaluate()
if trainer.is_world_process_zero():
    rows = [row for row in trainer.state.log_history if "loss" in row]
    log = [[row["loss"], row["mean_token_accuracy"], row["num_tokens"]] for row in rows]
    json.dump({"log": log, "eval": found["eval_loss"]}, open(out + ".json", "w"))
"""


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(tmp_path, tiny_model_dir):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    results = []
    for processes, batch in ((1, 4), (2, 2)):
        out = str(tmp_path / f"out{processes}")
        launch = [sys.executable]
        if processes > 1:
            launch += [
                "-m",
                "torch.distributed.run",
                f"--nproc_per_node={processes}",
                "--standalone",
            ]
        command = [*launch, str(script), str(tiny_model_dir), out, str(batch)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=240, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr[-3000:]
        results.append(json.loads((tmp_path / f"out{processes}.json").read_text()))
    one, two = results
    assert two["eval"] == pytest.approx(one["eval"], abs=1e-5)
    for a, b in zip(two["log"], one["log"], strict=True):
        assert a == pytest.approx(b, abs=1e-5)
