"""The trainer of one run: the library's trainer, made to survive what can go wrong in a worker.

Each override only says when a part takes over; what the part does is written there.
"""

from collections.abc import Callable
from functools import partial

from transformers import PrinterCallback

from trainer_backend.runs import RunWriter
from trainer_backend.training.sft_trainer import SFTTrainer
from trainer_backend.worker.evaluation import StopEarly, evaluate_if_room
from trainer_backend.worker.facts import RunFacts
from trainer_backend.worker.fsdp import (
    load_sharded,
    load_sharded_optimizer,
    save_sharded,
    save_sharded_optimizer,
)
from trainer_backend.worker.nan_guard import FiniteGuard
from trainer_backend.worker.preflight import Preflight
from trainer_backend.worker.recorder import RecordRun
from trainer_backend.worker.resume import CourseOfNow
from trainer_backend.worker.saving import Saving


class RunTrainer(SFTTrainer):
    """Trains one run: NaN guard, whole checkpoints, early stopping, FSDP shards, preflight checks.

    `arguments` are those of SFTTrainer, without callbacks.
    """

    def __init__(
        self, facts: RunFacts, writer: RunWriter, stop_requested: Callable[[], bool], **arguments
    ):
        recipe = facts.recipe
        self.writer, self.sharded = writer, recipe.distributed == "fsdp"
        self.guard, self.saving = FiniteGuard(self, writer), Saving(writer)
        self.early = StopEarly(writer, recipe.early_stopping_patience)
        record = RecordRun(writer, stop_requested, self.guard, self.saving)
        super().__init__(**arguments, callbacks=[record, self.early, CourseOfNow(), self.guard])
        self.remove_callback(PrinterCallback)  # the log a person reads is written by RecordRun
        # before the callbacks that open an account of this run elsewhere (report_to)
        self.callback_handler.callbacks.insert(0, Preflight(self, writer, recipe))

    def check_finite(self) -> None:
        """Raise UserError if training was given up because of NaN or infinite numbers."""
        if self.guard.gave_up or self.saving.bad_weights:
            raise self.guard.error()

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """Evaluate; where there is no memory for it, warn and return no metrics."""
        evaluate = partial(super().evaluate, *args, **kwargs)
        return evaluate_if_room(evaluate, self.state.global_step, self.writer)

    def _run_epoch(self, *args, **kwargs) -> None:
        """Train no extra step when a run resumes at its final step: the Trainer would do one.

        Such a run was killed while its answers were checked; it may have stopped early.
        """
        if self.early.stopped or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def _get_grad_norm(self, *args, **kwargs):
        self.guard.grad_norm = super()._get_grad_norm(*args, **kwargs)
        return self.guard.grad_norm

    # Checkpoints

    def _save_checkpoint(self, model, trial) -> None:
        write = partial(super()._save_checkpoint, model, trial)
        self.saving.save(write, model, self.state.global_step)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As the Trainer's; of a sharded model the first process writes the whole."""
        if self.sharded:
            save_sharded(self, output_dir or self.args.output_dir)
        else:
            super().save_model(output_dir, _internal_call)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.sharded:
            save_sharded_optimizer(self, output_dir)
        else:
            super()._save_optimizer_and_scheduler(output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        if self.sharded:
            load_sharded(self.model if model is None else model, resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if self.sharded:
            load_sharded(self.model, self.state.best_model_checkpoint)
        else:
            super()._load_best_model()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self.sharded:
            load_sharded_optimizer(self, checkpoint)
        else:
            super()._load_optimizer_and_scheduler(checkpoint)
