"""Going on with a run: exactly where it was, from the newest whole checkpoint, or not at all."""

import json
import shutil

import pytest
import torch
from run_files import set_state
from small_runs import losses_of, small_run, train_small, weights_hash, weights_of

from trainer_backend.__main__ import main
from trainer_backend.errors import UserError
from trainer_backend.home import read_json, write_json
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import new_run_from, retry_run
from trainer_backend.runs.writer import RunWriter
from trainer_backend.scheduling.run_queue import queue_again
from trainer_backend.worker import recorder
from trainer_backend.worker.main import run_worker
from trainer_backend.worker.resume import same_examples_a_step


class Died(BaseException):
    """A kill that leaves the process of the tests alive."""


def die_after(monkeypatch, step: int) -> None:
    """Let the next training vanish after a step, as kill -9 would: nothing more is written."""
    original = recorder.RecordRun.on_step_end

    def maybe_die(self, args, state, control, **kwargs):
        if state.global_step == step and self.writer.run.state()["attempt"] == 1:
            raise Died
        return original(self, args, state, control, **kwargs)

    monkeypatch.setattr(recorder.RecordRun, "on_step_end", maybe_die)


@pytest.mark.parametrize(
    "settings",
    [
        {"lora_dropout": 0.3},
        {"gradient_accumulation_steps": 2, "lora_dropout": 0.1, "save_steps": 3},
        {"packing": True, "eval_steps": 1},
        {"adapter": "full", "per_device_train_batch_size": 16, "lr_scheduler_type": "linear"},
        {"adapter": "qlora", "precision": "int4", "optim": "adamw_bnb_8bit", "save_steps": 3},
        {"init_lora_weights": "pissa", "loraplus_lr_ratio": 4.0, "neftune_noise_alpha": 5.0},
    ],
    ids=["lora", "accumulation", "packing", "full across epochs", "qlora", "expert"],
)
def test_case_18_a_killed_run_ends_as_the_uninterrupted_one(
    home, dataset, tiny_model_dir, monkeypatch, settings
):
    settings = {"max_steps": 6, **settings}
    whole = train_small(home, dataset, tiny_model_dir, **settings)
    die_after(monkeypatch, 5)
    run = small_run(home, dataset, tiny_model_dir, **settings)
    with pytest.raises(Died):
        run_worker(run.dir)
    assert run_worker(run.dir) == 0 and run.state()["attempt"] == 2
    assert weights_hash(run) == weights_hash(whole)
    assert losses_of(run) == losses_of(whole)


DAMAGES = {
    "case_11_model_truncated": ("adapter_model.safetensors", lambda p: p.write_bytes(b"x" * 9)),
    "case_12_optimizer_truncated": ("optimizer.pt", lambda p: p.write_bytes(p.read_bytes()[:99])),
    "case_13_state_truncated": ("trainer_state.json", lambda p: p.write_text("{")),
    "case_14_bit_flip": ("adapter_model.safetensors", lambda p: _flip(p)),
    "case_15_rng_missing": ("rng_state.pth", lambda p: p.unlink()),
    "case_16_empty_folder": ("never completed", lambda p: _empty(p.parent)),
}


def _flip(path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _empty(folder) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_checkpoint_is_named_set_aside_and_the_one_before_used(finished, case):
    named, hurt = DAMAGES[case]
    whole = weights_hash(finished)
    hurt(finished.checkpoints()[-1].path / (named if "." in named else "x"))
    set_state(finished, state="failed")
    assert run_worker(finished.dir) == 0
    state = finished.state()
    assert any("checkpoint-4" in one and named in one for one in state["warnings"])
    assert list((finished.dir / "checkpoints").glob("damaged-checkpoint-4-*"))
    resumed = [event["step"] for event in finished.events()[0] if event["type"] == "resumed"]
    assert resumed == [0, 2] and weights_hash(finished) == whole


def test_case_17_without_a_whole_checkpoint_it_refuses_and_offers_to_start_again(finished, home):
    for checkpoint in finished.checkpoints():
        (checkpoint.path / "optimizer.pt").write_bytes(b"")
    set_state(finished, state="failed")
    assert run_worker(finished.dir) == 2
    error = finished.state()["error"]
    assert error["code"] == "checkpoints_bad" and error["offer"] == {"retry": {}}
    assert "optimizer.pt" in error["where"] and "checkpoint-2" in error["where"]
    again = retry_run(finished, error["offer"]["retry"])
    assert again.recipe() == finished.recipe() and again.state()["state"] == "queued"


def test_a_crash_in_the_first_save_only_begins_again(home, dataset, tiny_model_dir):
    run = small_run(home, dataset, tiny_model_dir, max_steps=2)
    (run.dir / "checkpoints" / "checkpoint-2").mkdir()
    assert run_worker(run.dir) == 0 and run.state()["state"] == "finished"


def test_a_checkpoint_of_another_run_or_step_is_not_trusted_by_its_name(
    finished, home, dataset, tiny_model_dir
):
    other = small_run(home, dataset, tiny_model_dir)
    theirs = finished.checkpoints()[-1].path
    shutil.copytree(theirs, other.dir / "checkpoints" / "checkpoint-4")
    assert other.checkpoints() == []
    theirs.rename(theirs.with_name("checkpoint-9"))
    assert [one.step for one in finished.checkpoints()] == [2]


def test_case_20_a_finished_run_goes_on_for_more_steps_and_records_it(finished):
    with pytest.raises(UserError, match="finished cannot be resumed"):
        queue_again(finished)
    with pytest.raises(UserError, match="learning_rate"):
        queue_again(finished, changes={"learning_rate": 1e-5})
    queue_again(finished, foreground=True, changes={"max_steps": 6})
    assert run_worker(finished.dir) == 0
    state = finished.state()
    assert (state["state"], state["step"], state["total_steps"]) == ("finished", 6, 6)
    resumed = [event for event in finished.events()[0] if event["type"] == "resumed"]
    assert resumed[-1]["step"] == 4 and resumed[-1]["changes"] == {"max_steps": 6}
    assert [row["step"] for row in finished.metrics() if row["type"] == "metrics"] == [*range(1, 7)]


def test_a_run_killed_after_its_last_checkpoint_does_no_step_more(finished):
    before = weights_hash(finished), losses_of(finished)
    set_state(finished, state="failed", result_step=None)
    queue_again(finished, foreground=True)
    assert run_worker(finished.dir) == 0
    assert finished.state()["state"] == "finished" and finished.state()["step"] == 4
    assert (weights_hash(finished), losses_of(finished)) == before


def test_the_first_step_of_a_run_made_longer_teaches(finished):
    before = weights_hash(finished)  # the course ended at a learning rate of 0
    queue_again(finished, foreground=True, changes={"max_steps": 5})
    assert run_worker(finished.dir) == 0
    assert finished.checkpoints()[-1].step == 5 and weights_hash(finished) != before


def test_the_command_line_lengthens_a_finished_run(finished, monkeypatch):
    monkeypatch.setattr("trainer_backend.cli.runs.follow", lambda run, as_json: 0)
    command = ["resume", str(finished.dir), "--home", str(finished.home)]
    assert main([*command, "--set", "seed=1"]) == 2
    assert main([*command, "--set", "max_steps=6"]) == 0
    assert finished.recipe().max_steps == 6 and finished.state()["state"] == "preparing"


def test_case_21_other_packages_are_a_warning(finished):
    spec = read_json(finished.dir / "spec.json")
    write_json(finished.dir / "spec.json", {**spec, "packages": {"torch": "2.0"}})
    set_state(finished, state="failed")
    assert run_worker(finished.dir) == 0
    assert any("instead of 2.0" in one for one in finished.state()["warnings"])


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_new_run_may_begin_with_the_weights_of_another(home, dataset, tiny_model_dir, adapter):
    first = train_small(home, dataset, tiny_model_dir, adapter=adapter, max_steps=2)
    recipe = Recipe.from_dict({**first.settings(), "learning_rate": 1e-8, "seed": 7})
    second = new_run_from(first, recipe, foreground=True)
    assert second.spec()["start"]["run"] == first.id and second.spec()["start"]["step"] == 2
    assert run_worker(second.dir) == 0, second.state()
    one, two = (weights_of(each.checkpoints()[-1]) for each in (first, second))
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)
    first.delete()
    again = retry_run(second, {}, foreground=True)
    assert again.spec()["start"] == second.spec()["start"]
    assert sorted(p.name for p in (again.dir / "start").iterdir()) == sorted(
        second.spec()["start"]["files"]
    )


@pytest.mark.parametrize(
    "changes", [{"lora_r": 8}, {"adapter": "full"}, {"base_model": "other/model"}]
)
def test_weights_of_another_shape_cannot_be_the_beginning(finished, changes):
    recipe = Recipe.from_dict({**finished.settings(), **changes})
    with pytest.raises(UserError, match=next(iter(changes))):
        new_run_from(finished, recipe)


def test_a_run_without_a_checkpoint_is_no_beginning(run):
    with pytest.raises(UserError) as caught:
        new_run_from(run, run.recipe())
    assert caught.value.offer == {"retry": {}} and json.dumps(caught.value.to_dict())


@pytest.mark.parametrize(("began", "now", "steps"), [(2, 1, 8), (1, 2, 2), (2, 2, 4), (None, 3, 4)])
def test_another_number_of_processes_keeps_the_examples_of_a_step(run, began, now, steps):
    set_state(run, num_processes=began)
    writer = RunWriter(run)
    recipe = same_examples_a_step(run, Recipe(gradient_accumulation_steps=4), now, writer)
    assert recipe.gradient_accumulation_steps == steps
    assert bool(run.state().get("warnings")) is (steps != 4)


def test_a_number_of_processes_that_does_not_come_out_even_is_refused(run):
    set_state(run, num_processes=2)
    with pytest.raises(UserError, match="started with 2 training processes") as caught:
        same_examples_a_step(run, Recipe(), 3, RunWriter(run))
    assert caught.value.code == "settings_locked"
