"""Two processes (gloo, on the CPU) train and evaluate as one, started as a user starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
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
joins = trainer.merging.joins


def on_stream(merge):
    # the course of a training on a stream, whose batches one process deals out
    args = SFTConfig(out, per_device_train_batch_size=batch, max_steps=3, logging_steps=1,
                     gradient_accumulation_steps=2, merge_batches=merge, report_to="none",
                     save_strategy="no", disable_tqdm=True,
                     accelerator_config={"dispatch_batches": True})
    again = SFTTrainer(folder, args, train_dataset=Dataset.from_list(rows).to_iterable_dataset())
    again.train()
    return [[row[k] for k in ("loss", "grad_norm")] for row in again.state.log_history
            if "loss" in row]


sharded = type(trainer.model).__name__.startswith("FSDP")
found = {"eval": trainer.evaluate()["eval_loss"], "by_row": evaluate(by_row, rows[:5]),
         "joined": evaluate(None, rows[:3]), "stream": evaluate(None, stream)}
if joins:
    found["streams"] = [on_stream(merge) for merge in (False, True)]
if trainer.is_world_process_zero():
    log = [row for row in trainer.state.log_history if "loss" in row]
    keys = ("loss", "grad_norm", "mean_token_accuracy", "entropy")
    found |= {"world": args.world_size, "sharded": sharded}
    found["searches"] = args.ddp_find_unused_parameters
    found["log"] = [[row[k] for k in keys] for row in log]
    json.dump(found, open(out + ".json", "w"))
"""
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
LAUNCH += ["--num_processes", "2", "--main_process_port", "0"]


@pytest.fixture(scope="module")
def results(tmp_path_factory, tiny_model_dir) -> dict[str, dict]:
    """What the script found as one process, under accelerate launch, and sharded by FSDP."""
    folder = tmp_path_factory.mktemp("launched")
    (folder / "train.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["CUDA_VISIBLE_DEVICES"] = ""  # two processes on the CPU, also beside one GPU
    started = {}
    for name, launch, batch, settings in (
        ("one", [sys.executable], 4, {}),
        ("two", LAUNCH, 2, {}),
        ("fsdp", LAUNCH, 2, {"fsdp": True, "fsdp_config": {"version": 2}}),
        ("merged", LAUNCH, 1, {"gradient_accumulation_steps": 2, "merge_batches": True}),
    ):
        arguments = [str(tiny_model_dir), str(folder / name), str(batch), json.dumps(settings)]
        command = [*launch, str(folder / "train.py"), *arguments]
        started[name] = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment
        )
    for process in started.values():
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors[-3000:]
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in started}


def assert_same(found: dict, expected: dict) -> None:
    assert found["world"] == 2 and expected["world"] == 1
    for a, b in zip(found["log"], expected["log"], strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    assert found["eval"] == pytest.approx(expected["eval"], abs=1e-5)


@pytest.mark.slow
def test_a_script_under_accelerate_launch_gives_the_losses_of_one_process(results):
    assert results["two"]["searches"] is False  # a dense model: every weight gets a gradient
    assert_same(results["two"], results["one"])


@pytest.mark.slow
def test_merged_batches_of_two_processes_give_the_losses_of_one(results):
    assert_same(results["merged"], results["one"])
    plain, merged = results["merged"]["streams"]  # dealt out by one process
    assert len(plain) == 3
    for a, b in zip(merged, plain, strict=True):
        assert a == pytest.approx(b, rel=1e-5)


@pytest.mark.slow
def test_a_model_sharded_by_fsdp_gives_the_losses_of_one_process(results):
    assert results["fsdp"]["sharded"] and not results["two"]["sharded"]
    assert_same(results["fsdp"], results["one"])


@pytest.mark.slow
def test_an_odd_number_of_held_out_rows_is_counted_once(results):
    for kind in ("by_row", "joined", "stream"):
        assert results["two"][kind] == pytest.approx(results["one"][kind], abs=1e-5), kind
    assert results["two"]["by_row"]["rows"] == 5


def test_the_settings_of_fsdp_and_deepspeed_are_those_of_transformers():
    from importlib.util import find_spec

    from transformers import TrainingArguments

    from trainer_backend.training.sft_config import SFTConfig, as_sft_config

    config = {"version": 2, "cpu_offload": True, "transformer_layer_cls_to_wrap": ["Block"]}
    asked = TrainingArguments("out", fsdp=True, fsdp_config=dict(config))
    for ours in (as_sft_config(asked, "m"), SFTConfig("out", fsdp=True, fsdp_config=dict(config))):
        assert ours.fsdp_plugin_args == asked.fsdp_plugin_args and ours.fsdp_plugin_args
    if find_spec("deepspeed") is None:
        with pytest.raises(ImportError, match="deepspeed"):
            SFTConfig("out", deepspeed={"zero_optimization": {"stage": 2}})


def test_a_launch_that_starts_one_process_only_is_said(monkeypatch):
    from trainer_backend.training.sft_config import SFTConfig

    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.warns(UserWarning, match="--multi_gpu"):
        SFTConfig("out", report_to="none")
