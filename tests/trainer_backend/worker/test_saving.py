"""A full disk or weights that are no numbers cost one save at most, never an earlier checkpoint.

No disk is filled here: the errors torch and the system raise are put where they would come from.
"""

import errno
import shutil

import pytest
import torch
from run_files import set_state
from safetensors import SafetensorError
from small_runs import small_run, train_small, weights_hash
from transformers import Trainer

from trainer_backend.runs.checkpoints import purge, rotate
from trainer_backend.runs.writer import RunWriter
from trainer_backend.worker import saving as saving_module
from trainer_backend.worker.main import run_worker
from trainer_backend.worker.saving import Saving

TORN = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 320 vs 256")
NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


def full_at(monkeypatch, steps: set[int], error: Exception) -> None:
    """Let the disk be full while the optimizer of these steps is written."""
    original = Trainer._save_optimizer_and_scheduler

    def save(self, output_dir):
        original(self, output_dir)
        if self.state.global_step in steps:
            raise error

    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", save)


@pytest.mark.parametrize(
    "error", [TORN, NO_SPACE, SafetensorError("I/O error: No space left on device (os error 28)")]
)
def test_case_22_a_full_disk_during_a_save_costs_that_save(
    home, dataset, tiny_model_dir, monkeypatch, error
):
    full_at(monkeypatch, {1, 2}, error)
    run = train_small(home, dataset, tiny_model_dir, save_steps=1)
    assert [one.step for one in run.checkpoints()] == [3, 4]
    failed = [event for event in run.events()[0] if event["type"] == "save_failed"]
    assert [one["step"] for one in failed] == [1, 2] and failed[0]["needed"] > 0
    (warning,) = [one for one in run.state()["warnings"] if "disk is full" in one]
    assert "needs" in warning and "free" in warning
    assert run.state()["state"] == "finished"


def test_case_22_no_room_for_the_last_save_keeps_the_one_before(
    home, dataset, tiny_model_dir, monkeypatch
):
    full_at(monkeypatch, {4}, TORN)
    run = small_run(home, dataset, tiny_model_dir)
    assert run_worker(run.dir) == 2
    error = run.state()["error"]
    assert error["code"] == "disk_full" and "free in" in error["where"]
    assert [one.step for one in run.checkpoints()] == [2] and "step 2 is safe" in error["safe"]
    assert not (run.dir / "checkpoints" / "checkpoint-4").exists()
    monkeypatch.undo()
    assert run_worker(run.dir) == 0
    assert weights_hash(run) == weights_hash(train_small(home, dataset, tiny_model_dir))


def test_case_22_no_room_for_the_manifest_is_a_failed_save(run, monkeypatch):
    def no_room(*args, **kwargs):
        raise NO_SPACE

    saving, model = saving_of(run), torch.nn.Linear(2, 2)
    saving.save(small_checkpoint(run), model, 3)
    monkeypatch.setattr(saving_module, "commit", no_room)
    assert saving.commit(3, None, last=False) is False
    assert run.checkpoints() == [] and not (run.dir / "checkpoints" / "checkpoint-3").exists()


def saving_of(run) -> Saving:
    """The saving of a run that trains."""
    set_state(run, state="running")
    return Saving(RunWriter(run))


def small_checkpoint(run):
    """Writes one small file as the checkpoint of step 3."""
    folder = run.dir / "checkpoints"

    def write():
        (folder / "checkpoint-3").mkdir()
        (folder / "checkpoint-3" / "adapter_model.safetensors").write_bytes(b"weights")

    return write


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_case_28_weights_that_are_no_numbers_are_never_saved(run, value):
    saving, model = saving_of(run), torch.nn.Linear(2, 2)
    with torch.no_grad():
        model.weight[0, 0] = value
    saving.save(small_checkpoint(run), model, 3)
    assert saving.bad_weights and saving.commit(3, 0.5, last=True) is False
    assert list((run.dir / "checkpoints").iterdir()) == []
    with torch.no_grad():
        model.weight.fill_(1.0)
    saving.save(small_checkpoint(run), model, 3)
    assert saving.commit(3, 0.5, last=True) and [one.step for one in run.checkpoints()] == [3]


def test_another_error_while_saving_is_not_hidden(run):
    shutil.rmtree(run.dir / "checkpoints")
    with pytest.raises(FileNotFoundError):
        saving_of(run).save(small_checkpoint(run), torch.nn.Linear(2, 2), 3)


def test_what_a_crash_left_half_deleted_goes_and_few_damaged_ones_stay(run):
    folder = run.dir / "checkpoints"
    for name in (".trash-1", "damaged-checkpoint-1-a", "damaged-checkpoint-2-b", "damaged-x"):
        (folder / name).mkdir()
    purge(folder, keep_damaged=2)
    assert len(list(folder.iterdir())) == 2
    rotate(folder)
    assert len(list(folder.iterdir())) == 2
