"""Two processes (gloo, on the CPU) train and evaluate as one, started as a user starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# 7 rows in batches of 4, 5 held-out rows: both last rounds are filled up with repeated rows
SCRIPT = """
import json, sys
import numpy as np
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trainer_backend import SFTConfig, SFTTrainer

folder, out, batch, settings = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
rows = [{"prompt": "Who " * n, "response": "Paris. " * (8 - n)} for n in range(1, 8)]
stream = Dataset.from_list(rows[:3]).to_iterable_dataset()


def by_row(found):
    labels = found.label_ids[:, 1:]
    hits = (found.predictions[:, :-1].argmax(-1) == labels) & (labels != -100)
    return {"rows": len(labels), "learned": int((labels != -100).sum()), "hits": int(hits.sum())}


def evaluate(metrics, data):
    args = SFTConfig(out, per_device_eval_batch_size=batch, report_to="none", disable_tqdm=True)
    found = SFTTrainer(folder, args, train_dataset=rows, eval_dataset=data,
                       compute_metrics=metrics).evaluate()
    kept = ("loss", "mean_token_accuracy", "entropy", "rows", "learned", "hits")
    return {k: found["eval_" + k] for k in kept if "eval_" + k in found}


args = SFTConfig(out, per_device_train_batch_size=batch, per_device_eval_batch_size=batch,
                 max_steps=4, logging_steps=1, learning_rate=1e-2, report_to="none",
                 save_strategy="no", disable_tqdm=True, **settings)
trainer = SFTTrainer(folder, args, train_dataset=rows, eval_dataset=rows[:5])
trainer.train()
found = {"eval": trainer.evaluate()["eval_loss"], "by_row": evaluate(by_row, rows[:5]),
         "joined": evaluate(None, rows[:3]), "stream": evaluate(None, stream)}
if trainer.is_world_process_zero():
    log = [row for row in trainer.state.log_history if "loss" in row]
    keys = ("loss", "grad_norm", "mean_token_accuracy", "entropy")
    found |= {"world": args.world_size, "log": [[row[k] for k in keys] for row in log]}
    json.dump(found, open(out + ".json", "w"))
"""
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
LAUNCHERS = {
    "one": [sys.executable],
    "accelerate": [sys.executable, *LAUNCH, "--main_process_port", "0"],
}


def start(launcher: str, tmp_path, model, batch: int, **settings) -> subprocess.Popen:
    script, out = tmp_path / "train.py", tmp_path / launcher
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [*LAUNCHERS[launcher], str(script), str(model), str(out), str(batch), json.dumps(settings)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


def result(process: subprocess.Popen, launcher: str, tmp_path) -> dict:
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors[-3000:]
    return json.loads((tmp_path / launcher).with_suffix(".json").read_text())


@pytest.mark.slow
def test_a_script_under_accelerate_launch_gives_the_losses_of_one_process(tmp_path, tiny_model_dir):
    batches = {"one": 4, "accelerate": 2}
    started = {name: start(name, tmp_path, tiny_model_dir, n) for name, n in batches.items()}
    one, two = (result(process, name, tmp_path) for name, process in started.items())
    assert (one["world"], two["world"]) == (1, 2)
    for a, b in zip(two["log"], one["log"], strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    for kind in ("eval", "by_row", "joined", "stream"):
        assert two[kind] == pytest.approx(one[kind], abs=1e-5), kind
    assert two["by_row"]["rows"] == 5
