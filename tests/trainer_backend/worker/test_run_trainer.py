"""The overrides of a run's trainer: which part takes over, and when the Trainer's own is used."""

import pytest
from run_files import set_state
from small_runs import small_run
from transformers import DefaultFlowCallback, PrinterCallback, Trainer

from trainer_backend.estimation.timing import Stopwatch
from trainer_backend.runs.writer import RunWriter
from trainer_backend.worker import run_trainer
from trainer_backend.worker.arguments import training_arguments
from trainer_backend.worker.facts import RunFacts
from trainer_backend.worker.run_trainer import RunTrainer

CHECKPOINT_CALLS = [
    ("save_model", ("out",), "save_sharded"),
    ("_save_optimizer_and_scheduler", ("out",), "save_sharded_optimizer"),
    ("_load_from_checkpoint", ("out",), "load_sharded"),
    ("_load_best_model", (), "load_sharded"),
    ("_load_optimizer_and_scheduler", ("out",), "load_sharded_optimizer"),
]


@pytest.fixture
def make(home, dataset, tiny_model_dir, tiny_model, tokenizer, pairs):
    """Builds the trainer of a run with these settings; nothing is trained."""

    def make(**settings):
        run = small_run(home, dataset, tiny_model_dir, **settings)
        set_state(run, state="running")
        facts = RunFacts.load(run)
        return RunTrainer(
            facts,
            RunWriter(run),
            lambda: False,
            Stopwatch("preparing"),
            model=tiny_model,
            args=training_arguments(facts, has_eval=False),
            train_dataset=pairs,
            processing_class=tokenizer,
        )

    return make


def test_preflight_comes_first_the_guard_last_and_nothing_is_printed(make):
    names = [type(one).__name__ for one in make().callback_handler.callbacks]
    own = ["RecordRun", "StopEarly", "CurrentSchedule", "NanGuard"]
    assert names[0] == "Preflight" and names[-4:] == own
    assert DefaultFlowCallback.__name__ in names and PrinterCallback.__name__ not in names


@pytest.mark.parametrize(("method", "arguments", "part"), CHECKPOINT_CALLS)
@pytest.mark.parametrize("distributed", ["ddp", "fsdp"])
def test_only_a_sharded_model_is_saved_and_loaded_in_shards(
    make, monkeypatch, distributed, method, arguments, part
):
    trainer, called = make(distributed=distributed), []
    trainer.state.best_model_checkpoint = "out"
    own = Trainer if method != "_load_from_checkpoint" else run_trainer.SFTTrainer
    own = run_trainer.SFTTrainer if method == "_load_best_model" else own
    monkeypatch.setattr(own, method, lambda *_, **__: called.append("Trainer"))
    monkeypatch.setattr(run_trainer, part, lambda *_: called.append(part))
    getattr(trainer, method)(*arguments)
    assert called == [part if distributed == "fsdp" else "Trainer"]


def test_the_guard_sees_the_gradient_norm_of_the_step(make, monkeypatch):
    monkeypatch.setattr(Trainer, "_get_grad_norm", lambda *_, **__: 2.5)
    trainer = make()
    assert trainer._get_grad_norm(trainer.model) == 2.5 == trainer.guard.grad_norm


def test_a_checkpoint_is_written_by_the_trainer_and_checked_by_saving(make, monkeypatch):
    written = []
    monkeypatch.setattr(Trainer, "_save_checkpoint", lambda *_: written.append(1))
    trainer = make()
    trainer.writer.enter("running")
    trainer._save_checkpoint(trainer.model, None)
    next(trainer.model.parameters()).data.fill_(float("nan"))
    trainer._save_checkpoint(trainer.model, None)
    assert written == [1] and trainer.saving.bad_weights
    with pytest.raises(Exception, match="NaN or infinite"):
        trainer.check_finite()


def test_no_step_is_trained_beyond_the_last(make, monkeypatch):
    trained = []
    monkeypatch.setattr(Trainer, "_run_epoch", lambda *_: trained.append(1))
    trainer = make()
    trainer.state.max_steps, trainer.state.global_step = 4, 3
    trainer._run_epoch(trainer.model)
    trainer.state.global_step = 4
    trainer._run_epoch(trainer.model)
    assert trained == [1] and trainer.control.should_training_stop
