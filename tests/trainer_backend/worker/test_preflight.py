"""What is tried before the first step: it fails early with numbers, and leaves no trace."""

import re
from types import SimpleNamespace

import pytest
import torch
from conftest import build_tokenizer
from datasets import Dataset
from small_runs import losses_of, small_run, train_small, weights_hash
from vision_models import TEMPLATE, llava_processor

from trainer_backend.disk import GIB
from trainer_backend.errors import UserError
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.state import write_state
from trainer_backend.training.steps import merging
from trainer_backend.worker import preflight, run_trainer
from trainer_backend.worker.main import run_worker
from trainer_backend.worker.preflight import Preflight
from trainer_backend.worker.resume import Trial, settle_trial

ACCUMULATED = {"gradient_accumulation_steps": 2, "lora_dropout": 0.0}


@pytest.mark.parametrize("settings", [{"lora_dropout": 0.2}, {"adapter": "full", "packing": True}])
def test_a_run_is_the_same_with_and_without_the_checks(
    home, dataset, tiny_model_dir, monkeypatch, settings
):
    checked = train_small(home, dataset, tiny_model_dir, **settings)
    monkeypatch.setattr(preflight.Preflight, "on_train_begin", lambda *args, **kwargs: None)
    plain = train_small(home, dataset, tiny_model_dir, **settings)
    assert weights_hash(checked) == weights_hash(plain)
    assert losses_of(checked) == losses_of(plain)


def test_case_24_a_disk_too_small_is_refused_with_numbers(
    home, dataset, tiny_model_dir, monkeypatch
):
    monkeypatch.setattr(preflight, "free_bytes", lambda folder: GIB // 2)
    run = small_run(home, dataset, tiny_model_dir)
    assert run_worker(run.dir) == 2
    error = run.state()["error"]
    assert error["code"] == "disk_small" and run.checkpoints() == []
    assert "512 MB free" in error["where"] and "1.0 GB needed" in error["where"]


def test_case_24_what_a_run_writes_counts_every_checkpoint_at_once_on_the_disk():
    assert preflight.planned_saves(100, 10) == 10
    assert preflight.planned_saves(5, 2**31) == 1
    model = torch.nn.Linear(1000, 1000)
    full = preflight.checkpoint_bytes(model, Recipe(adapter="full"))
    assert full == 1_001_000 * (4 + 8) + preflight.EXTRA_BYTES
    model.weight.requires_grad = False
    adapter = preflight.checkpoint_bytes(model, Recipe(optim="adamw_bnb_8bit"))
    assert adapter == 1000 * (4 + 2) + preflight.EXTRA_BYTES


def test_case_30_labels_that_are_all_context_are_refused():
    batch = {"labels": torch.full((2, 5), -100)}
    with pytest.raises(UserError, match="training row 8") as caught:
        preflight.check_labels(batch, [7, 3])
    assert caught.value.code == "labels_empty"
    batch["labels"][1, 2] = 5
    preflight.check_labels(batch, [7, 3])


def test_case_30_rows_longer_than_the_limit_are_refused_before_training(
    home, dataset, tiny_model_dir
):
    run = small_run(home, dataset, tiny_model_dir, max_length=8)
    assert run_worker(run.dir) == 2
    error = run.state()["error"]
    assert re.search(r"\d+ rows", error["where"]) and run.metrics() == []


def test_case_31_tokens_the_model_does_not_know_are_refused_with_both_sizes():
    rows = Dataset.from_dict({"input_ids": [[1, 2], [3, 400]]})
    with pytest.raises(UserError, match="token 400; the model has only 400") as caught:
        preflight.check_tokens(rows, 400)
    assert caught.value.code == "token_ids"
    preflight.check_tokens(rows, 401)


def test_the_longest_rows_are_tried_first():
    rows = Dataset.from_dict({"input_ids": [[1], [1, 2, 3], [1, 2], [1, 2, 3, 4]]})
    assert preflight.longest_rows(rows, 2) == [3, 1]


def test_a_model_that_reads_images_is_not_shared_out():
    processor = llava_processor(build_tokenizer(TEMPLATE))
    with pytest.raises(UserError, match="reads images") as refused:
        preflight.check_shards(True, processor, "a-model")
    assert refused.value.fix and "a-model" in refused.value.where
    preflight.check_shards(True, processor.tokenizer, "a-model")
    preflight.check_shards(False, processor, "a-model")


def test_case_27_no_memory_for_the_longest_batch_is_told_before_the_first_step(
    home, dataset, tiny_model_dir, monkeypatch
):
    """No GPU here: the exception torch raises is put where it would come from."""
    from trainer_backend.training.sft_trainer import SFTTrainer

    def no_memory(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(SFTTrainer, "_compute_part", no_memory)
    run = small_run(home, dataset, tiny_model_dir)
    assert run_worker(run.dir) == 1
    error = run.state()["error"]
    assert error["code"] == "out_of_memory" and "batch size 4 × 128 tokens" in error["where"]
    tried = "Tried in 1, 2 and 4 parts with “Gradient checkpointing” too; the longest example alone"
    assert tried in error["where"]
    # neither half the batch nor gradient checkpointing helps: both were tried
    assert error["offer"] is None
    assert "before the first step" in error["where"] and error["safe"]


def test_a_merged_step_is_tried_and_halved_before_the_first_step(
    home, dataset, tiny_model_dir, monkeypatch
):
    from trainer_backend.training.sft_trainer import SFTTrainer

    plain = train_small(home, dataset, tiny_model_dir, per_device_train_batch_size=2, **ACCUMULATED)
    compute, sizes = SFTTrainer._compute_part, []

    def tight(self, model, inputs, num_items_in_batch=None):
        sizes.append(inputs["input_ids"].numel())
        if sizes[-1] >= sizes[0]:  # the first is the largest step, tried as a whole
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return compute(self, model, inputs, num_items_in_batch)

    monkeypatch.setattr(SFTTrainer, "_compute_part", tight)
    merged = {"per_device_train_batch_size": 2, "extra_arguments": '{"merge_batches": true}'}
    run = train_small(home, dataset, tiny_model_dir, **ACCUMULATED, **merged)
    state = run.state()
    assert state["state"] == "finished" and state["part_tokens"] == -(-sizes[0] // 2)
    assert losses_of(run) == pytest.approx(losses_of(plain), rel=1e-5)
    assert any("The 2 batches of each optimizer step" in one for one in state["paths"])
    assert any("in parts" in one and f"ran out at {sizes[0]:,}" in one for one in state["paths"])
    assert state["batch_rows"] == 2


def test_a_run_begins_with_the_parts_of_the_estimate(home, dataset, tiny_model_dir, monkeypatch):
    from trainer_backend.worker import train

    monkeypatch.setattr(train, "step_parts", lambda facts: 3)
    run = train_small(home, dataset, tiny_model_dir, max_steps=1)
    (said,) = [one for one in run.state()["paths"] if "in parts" in one]
    assert "because by the estimate all of it does not fit into the free memory" in said
    assert f"more than {run.state()['part_tokens']:,} tokens" in said


def test_the_peak_of_a_gpu_is_counted_anew_around_the_trial(monkeypatch):
    resets = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda *args: resets.append(args))
    with preflight.peak_forgotten():
        pass
    assert resets == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with preflight.peak_forgotten():
        assert len(resets) == 1
    assert len(resets) == 2


def short_of_memory(monkeypatch, while_true):
    """Let passes run out of memory as long as while_true(trainer) holds; returns the failures."""
    from trainer_backend.training.sft_trainer import SFTTrainer

    compute, failures = SFTTrainer._compute_part, []

    def tight(self, model, inputs, num_items_in_batch=None):
        if while_true(self):
            failures.append(inputs["input_ids"].numel())
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return compute(self, model, inputs, num_items_in_batch)

    monkeypatch.setattr(SFTTrainer, "_compute_part", tight)
    return failures


@pytest.mark.parametrize("divides", [True, False], ids=["in parts", "undivided"])
def test_a_run_without_room_keeps_less_and_goes_on(
    home, dataset, tiny_model_dir, monkeypatch, divides
):
    whole = {"max_steps": 2, "lora_dropout": 0.0}
    plain = train_small(home, dataset, tiny_model_dir, **whole)
    failures = short_of_memory(monkeypatch, lambda one: not one.args.gradient_checkpointing)
    if not divides:
        monkeypatch.setattr(merging, "can_merge", lambda trainer: False)
    run = train_small(home, dataset, tiny_model_dir, **whole)
    state = run.state()
    assert state["state"] == "finished" and 1 <= len(failures) <= 4  # parts of the largest step
    assert losses_of(run) == pytest.approx(losses_of(plain), rel=1e-5)
    (said,) = [one for one in state["paths"] if "Gradient checkpointing" in one]
    assert "ran out, against the estimate" in said and "results are the same" in said
    assert state["trial"]["less"] == ["checkpointing"] and state["part_tokens"] is None


def test_memory_that_runs_out_in_a_later_step_is_met_in_the_same_way(
    home, dataset, tiny_model_dir, monkeypatch
):
    def later(one):
        return one.state.global_step == 2 and not one.args.gradient_checkpointing

    whole = {"per_device_train_batch_size": 1, "max_steps": 4}
    plain = train_small(home, dataset, tiny_model_dir, **whole)
    failures = short_of_memory(monkeypatch, later)
    run = train_small(home, dataset, tiny_model_dir, **whole)
    assert run.state()["state"] == "finished" and len(failures) == 1
    assert losses_of(run) == pytest.approx(losses_of(plain), rel=1e-5)
    assert run.state()["trial"]["less"] == ["checkpointing"]


HERE = {"device": "cpu", "memory_gb": 10.0}


@pytest.mark.parametrize(
    ("before", "tries", "parts"),
    [
        ({"trial": HERE, "part_tokens": 40}, 0, 40),
        ({"trial": HERE, "part_tokens": None}, 0, None),
        ({"trial": {**HERE, "memory_gb": 10.9}, "part_tokens": 40}, 0, 40),
        ({"trial": {**HERE, "memory_gb": 5.0}, "part_tokens": 40}, 1, None),
        ({"trial": {**HERE, "memory_gb": 5.0}, "part_tokens": None}, 0, None),
        ({"trial": {**HERE, "device": "Test card"}, "part_tokens": None}, 1, None),
        ({"part_tokens": 40}, 0, None),  # of an earlier version
    ],
)
def test_a_resumed_run_tries_again_where_device_or_memory_are_others(before, tries, parts):
    now, earlier = Trial("cpu", 10.0), Trial.of(before)
    trial, holds = settle_trial(before, now)
    assert trial == (earlier if holds else now) and trial.part_tokens == parts
    trainer = SimpleNamespace(
        was_tried=holds,
        merging=SimpleNamespace(retries=True, joins=True),
        args=SimpleNamespace(device=torch.device("cpu")),
    )
    writer = SimpleNamespace(run=SimpleNamespace(state=lambda: before))
    due = Preflight(trainer, writer, Recipe())._is_due()
    assert due is bool(tries)
    trainer.args.device = torch.device("cuda")
    assert Preflight(trainer, writer, Recipe())._is_due() is (not holds)


def test_a_resumed_run_keeps_its_parts_and_what_it_switched_on(
    home, dataset, tiny_model_dir, monkeypatch
):
    tries = []
    usual = Preflight._try
    monkeypatch.setattr(
        Preflight, "_try", lambda self, batch: tries.append(1) or usual(self, batch)
    )
    monkeypatch.setattr(run_trainer, "usable_bytes", lambda device: 8.0 * GIB)
    run = train_small(home, dataset, tiny_model_dir, max_steps=2, save_steps=1)
    state = run.state()
    assert len(tries) == 1 and state["trial"] == {"device": "cpu", "memory_gb": 8.0, "less": []}
    kept = {**state["trial"], "less": ["checkpointing"]}
    write_state(run.dir, {**state, "trial": kept, "part_tokens": 30, "state": "queued"})
    run.change_recipe({"max_steps": 3}, "user")
    assert run_worker(run.dir) == 0
    now = run.state()
    assert len(tries) == 1 and now["part_tokens"] == 30 and now["trial"] == kept
    (said,) = [one for one in now["paths"] if "Gradient checkpointing" in one]
    assert "ran out earlier in this run" in said
