"""A NaN or infinite loss or gradient never reaches the weights: its optimizer step is skipped."""

import json
import math

import pytest
import torch
from small_runs import losses_of, small_run, train_small, weights_hash, weights_of

from trainer_backend.training.sft_trainer import SFTTrainer
from trainer_backend.worker.main import run_worker
from trainer_backend.worker.nan_guard import MAX_IN_A_ROW


def spoil(monkeypatch, calls: set[int], how: str) -> list[int]:
    """Let some calls of the loss (counted from 1, the check before the start left out) be wrong."""
    original, seen = SFTTrainer._compute_part, [-1]

    def wrong(self, model, inputs, num_items_in_batch=None):
        loss = original(self, model, inputs, num_items_in_batch)
        seen[0] += 1
        if seen[0] in calls:
            learning = [one for one in model.parameters() if one.requires_grad]
            if how in ("nan gradient", "nan", "inf"):
                value = math.inf if how == "inf" else math.nan
                learning[0].grad.fill_(value)
            if how != "nan gradient":
                loss = loss * (math.inf if how == "inf" else math.nan)
        return loss

    monkeypatch.setattr(SFTTrainer, "_compute_part", wrong)
    return seen


def all_finite(run) -> bool:
    return all(
        bool(torch.isfinite(tensor).all())
        for checkpoint in run.checkpoints()
        for tensor in weights_of(checkpoint).values()
    )


@pytest.mark.parametrize("how", ["nan", "inf", "nan gradient", "nan loss only"])
def test_case_28_one_bad_step_is_skipped_and_counted(
    home, dataset, tiny_model_dir, monkeypatch, how
):
    spoil(monkeypatch, {2}, how)
    run = train_small(home, dataset, tiny_model_dir)
    state = run.state()
    assert state["state"] == "finished" and state["skipped_steps"] == 1 and all_finite(run)
    assert any("was skipped" in warning for warning in state["warnings"])
    losses = losses_of(run)
    assert [loss is None for loss in losses] == [False, True, False, False]
    skipped = [event for event in run.events()[0] if event["type"] == "skipped"]
    assert [(one["step"], one["in_a_row"]) for one in skipped] == [(2, 1)]


def test_case_28_a_skipped_step_moves_no_weight(home, dataset, tiny_model_dir, monkeypatch):
    spoil(monkeypatch, {3, 4}, "nan")
    run = train_small(home, dataset, tiny_model_dir, save_steps=2, eval_fraction=0.0)
    two, four = (weights_of(one) for one in run.checkpoints())
    assert all(two[name].equal(four[name]) for name in two)


def test_case_28_after_several_in_a_row_it_stops_with_advice_and_all_weights_finite(
    home, dataset, tiny_model_dir, monkeypatch
):
    spoil(monkeypatch, set(range(3, 99)), "nan")
    run = small_run(home, dataset, tiny_model_dir, max_steps=20, save_steps=1)
    assert run_worker(run.dir) == 2
    state = run.state()
    error = state["error"]
    assert state["state"] == "failed" and error["code"] == "nan_loss"
    assert state["skipped_steps"] == MAX_IN_A_ROW + 1
    assert error["offer"] == {"retry": {"learning_rate": 0.0033}} and "0.0033" in error["fix"]
    assert run.checkpoints() and all_finite(run) and "step 6" in error["safe"]


@pytest.mark.parametrize("settings", [{"gradient_accumulation_steps": 3}, {"optim": "adafactor"}])
def test_case_28_with_accumulation_and_other_optimizers(
    home, dataset, tiny_model_dir, monkeypatch, settings
):
    spoil(monkeypatch, {2}, "nan")
    run = train_small(home, dataset, tiny_model_dir, **settings)
    assert run.state()["skipped_steps"] == 1 and all_finite(run)
    assert losses_of(run)[-1] is not None


def test_case_28_a_learning_rate_that_blows_up_keeps_no_bad_checkpoint(
    home, dataset, tiny_model_dir, monkeypatch
):
    from trainer_backend.training.sft_config import SFTConfig

    original = SFTConfig.__post_init__

    def huge(self):
        self.learning_rate, self.max_grad_norm = 1e30, 0.0
        original(self)

    monkeypatch.setattr(SFTConfig, "__post_init__", huge)
    run = small_run(home, dataset, tiny_model_dir, max_steps=20, save_steps=1, adapter="full")
    assert run_worker(run.dir) == 2
    assert run.state()["error"]["code"] == "nan_loss" and all_finite(run)


def test_case_29_files_stay_strict_json_and_the_curve_has_a_gap(
    home, dataset, tiny_model_dir, monkeypatch
):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    spoil(monkeypatch, {1, 2}, "nan")
    run = train_small(home, dataset, tiny_model_dir)
    for line in (run.dir / "events.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    json.loads((run.dir / "state.json").read_text(), parse_constant=refuse)
    for checkpoint in run.checkpoints():
        json.loads((checkpoint.path / "trainer_state.json").read_text(), parse_constant=refuse)
    rows = [row for row in run.metrics() if row["type"] == "metrics"]
    assert rows[0]["loss"] is None and "loss" in rows[0]["not_finite"]
    assert rows[2]["loss"] is not None


def test_a_run_without_bad_steps_is_not_changed_by_the_guard(
    home, dataset, tiny_model_dir, monkeypatch
):
    from trainer_backend.worker.nan_guard import NanGuard

    guarded = train_small(home, dataset, tiny_model_dir)
    monkeypatch.setattr(NanGuard, "_wrong", lambda self: None)
    assert weights_hash(guarded) == weights_hash(train_small(home, dataset, tiny_model_dir))
