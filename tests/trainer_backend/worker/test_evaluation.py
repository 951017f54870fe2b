"""Early stopping, the best checkpoint, and memory that runs out only while measuring."""

from types import SimpleNamespace

import torch
from run_files import append, set_state
from small_runs import small_run, train_small, weights_of

from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.target import run_target
from trainer_backend.runs.writer import RunWriter
from trainer_backend.scheduling.run_queue import queue_again
from trainer_backend.training.sft_trainer import SFTTrainer
from trainer_backend.worker import evaluation
from trainer_backend.worker.evaluation import StopEarly, warn_without_rows
from trainer_backend.worker.main import run_worker


def eval_losses(monkeypatch, losses: list[float]) -> None:
    """Let the measurements of a run be these."""
    original, left = SFTTrainer.evaluation_loop, list(losses)

    def measured(self, *args, **kwargs):
        output = original(self, *args, **kwargs)
        output.metrics["eval_loss"] = left.pop(0)
        return output

    monkeypatch.setattr(SFTTrainer, "evaluation_loop", measured)


FALLS_THEN_RISES = [3.0, 2.0, 2.5, 2.6, 2.7, 2.8]
EARLY = {"eval_steps": 1, "save_steps": 1, "max_steps": 6}


def test_a_run_stops_early_when_the_eval_loss_no_longer_falls(
    home, dataset, tiny_model_dir, monkeypatch
):
    eval_losses(monkeypatch, FALLS_THEN_RISES)
    run = train_small(home, dataset, tiny_model_dir, **EARLY, early_stopping_patience=2)
    state = run.state()
    assert (state["state"], state["step"], state["early_stopped"]) == ("finished", 4, 4)
    stops = [event for event in run.events()[0] if event["type"] == "early_stop"]
    assert [(one["step"], one["best"]) for one in stops] == [(4, 2.0)]
    assert run.checkpoints()[-1].step == 4 and run.result().step == 4

    set_state(run, state="failed")  # killed while answers were checked
    queue_again(run, foreground=True)
    assert run_worker(run.dir) == 0
    again = run.state()
    assert (again["state"], again["step"], again["early_stopped"]) == ("finished", 4, 4)
    queue_again(run, foreground=True, changes={"max_steps": 7})  # somebody wants more of it
    assert run_worker(run.dir) == 0
    assert run.state()["step"] == run.state()["early_stopped"] == 5


def test_what_needs_held_out_rows_is_said_when_there_are_none(run):
    writer = RunWriter(run)
    warn_without_rows(Recipe(), writer)
    assert not run.state().get("warnings")
    warn_without_rows(Recipe(early_stopping_patience=2, load_best_at_end=True), writer)
    writer.update(now=True)
    note = run.state()["warnings"][0]
    assert "No rows are held out" in note and "early stopping, best checkpoint" in note


def test_without_patience_it_goes_to_its_end(home, dataset, tiny_model_dir, monkeypatch):
    eval_losses(monkeypatch, FALLS_THEN_RISES)
    run = train_small(home, dataset, tiny_model_dir, **EARLY)
    assert run.state()["step"] == 6 and run.state()["early_stopped"] is None


def test_the_best_checkpoint_is_the_result_when_asked_for(
    home, dataset, tiny_model_dir, monkeypatch
):
    eval_losses(monkeypatch, FALLS_THEN_RISES)
    seen = {}
    monkeypatch.setattr(
        "trainer_backend.worker.train.evaluate_result",
        lambda facts, base, trainer, progress: seen.update(trainer.model.state_dict()) and None,
    )
    run = train_small(home, dataset, tiny_model_dir, **EARLY, load_best_at_end=True)
    assert run.result().step == 2 and run.state()["result_step"] == 2
    assert [one.step for one in run.checkpoints()] == [2, 5, 6]
    assert run_target(run).checkpoint.name == "checkpoint-2"
    assert run_target(run, 6).checkpoint.name == "checkpoint-6"
    best = weights_of(run.result())
    in_memory = {name.replace(".default", ""): tensor for name, tensor in seen.items()}
    assert all(in_memory[name].cpu().equal(tensor) for name, tensor in best.items())


def test_an_evaluation_shows_its_own_progress(home, dataset, tiny_model_dir, monkeypatch):
    written = []
    update = RunWriter.update

    def noted(self, *, now=False, **facts):
        written.append(facts)
        update(self, now=now, **facts)

    monkeypatch.setattr(RunWriter, "update", noted)
    run = train_small(home, dataset, tiny_model_dir, eval_steps=2)
    shown = [one["progress"] for one in written if "eta_seconds" in one and "progress" in one]
    first = next(at for at, one in enumerate(shown) if one)
    batches, (total,) = shown[first:], {one["total"] for one in shown if one}
    assert {one["what"] for one in batches if one} == {"Evaluating"}
    assert [one and one["done"] for one in batches[: total + 1]] == [*range(1, total + 1), None]
    assert run.state()["progress"] is None and run.state()["eta_seconds"] is None
    assert all(one["eta_seconds"] >= 0 for one in written if one.get("eta_seconds") is not None)


def test_a_resumed_run_remembers_its_measurements(run):
    rows = [{"type": "eval", "step": n, "eval_loss": loss} for n, loss in ((1, 2.0), (2, 2.5))]
    append(run, *rows, {"type": "eval", "step": 9, "eval_loss": 0.1})
    early = StopEarly(RunWriter(run), patience=2)
    state = type("State", (), {"global_step": 2, "max_steps": 9})
    early.on_train_begin(None, state, None)
    assert (early.best, early.without_gain) == (2.0, 1)


def test_case_27_no_memory_while_measuring_costs_that_evaluation_only(
    home, dataset, tiny_model_dir, monkeypatch
):
    """No GPU here: the exception torch raises is put where it would come from."""

    def no_memory(self, *args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(SFTTrainer, "evaluation_loop", no_memory)
    run = train_small(home, dataset, tiny_model_dir)
    state = run.state()
    assert state["state"] == "finished" and run.summary()["eval_loss"] is None
    said = next(one for one in state["warnings"] if "during the evaluation at step 2" in one)
    assert "Tried with 4, 2 and 1 rows at a time" in said
    assert [row["type"] for row in run.metrics()] == ["metrics"] * 4


def test_an_evaluation_without_room_is_done_with_fewer_rows_at_a_time(run):
    args = SimpleNamespace(per_device_eval_batch_size=8, world_size=1)

    def evaluate():
        if args.per_device_eval_batch_size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return {"eval_loss": 1.5}

    writer = RunWriter(run)
    assert evaluation.evaluate_if_room(evaluate, args, 3, writer) == {"eval_loss": 1.5}
    assert evaluation.evaluate_if_room(evaluate, args, 6, writer) == {"eval_loss": 1.5}
    (said,) = run.state()["warnings"]
    assert "with 4 rows at a time" in said and "with 2 rows at a time from now on" in said
    shared = SimpleNamespace(per_device_eval_batch_size=8, world_size=2)

    def never():
        raise torch.OutOfMemoryError("CUDA out of memory.")

    assert evaluation.evaluate_if_room(never, shared, 3, writer) == {}
    assert "Tried with 8 rows at a time" in run.state()["warnings"][-1]


def test_another_error_while_measuring_is_not_hidden(home, dataset, tiny_model_dir, monkeypatch):
    def broken(self, *args, **kwargs):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(SFTTrainer, "evaluation_loop", broken)
    run = small_run(home, dataset, tiny_model_dir)
    assert run_worker(run.dir) == 1 and "shape mismatch" in run.state()["error"]["what"]


def test_case_26_a_run_goes_on_with_half_the_batch_and_ends_alike(
    home, dataset, tiny_model_dir, monkeypatch
):
    """Memory runs out at step 3 as long as four examples are looked at together."""
    whole = train_small(home, dataset, tiny_model_dir)
    original = SFTTrainer.training_step

    def tight(self, model, inputs, num_items_in_batch=None):
        if self.state.global_step == 2 and self.args.per_device_train_batch_size == 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(self, model, inputs, num_items_in_batch)

    monkeypatch.setattr(SFTTrainer, "training_step", tight)
    run = small_run(home, dataset, tiny_model_dir, on_out_of_memory="halve_batch")
    assert run_worker(run.dir) == 0 and run.state()["state"] == "queued"
    set_state(run, state="preparing")
    assert run_worker(run.dir) == 0 and run.state()["state"] == "finished"
    assert run.recipe().per_device_train_batch_size == 2
    for name, tensor in weights_of(whole.checkpoints()[-1]).items():
        assert torch.allclose(tensor, weights_of(run.checkpoints()[-1])[name], atol=1e-4)
    resumed = [event for event in run.events()[0] if event["type"] == "resumed"]
    assert resumed[-1]["changes"]["gradient_accumulation_steps"] == 2
    assert evaluation.LEAST_GAIN < 1e-3
