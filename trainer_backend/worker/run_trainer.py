"""The trainer of one run: the library's trainer with guards, checkpoints and early stopping.

Each override only hands over to a part; no logic of a part is here.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from transformers import PrinterCallback

from trainer_backend.disk import GIB
from trainer_backend.estimation.timing import Stopwatch
from trainer_backend.runs import RunWriter
from trainer_backend.training.sft_trainer import SFTTrainer
from trainer_backend.training.steps.long_rows import Way
from trainer_backend.worker.evaluation import StopEarly, evaluate_if_room
from trainer_backend.worker.facts import RunFacts
from trainer_backend.worker.fsdp import (
    load_sharded,
    load_sharded_optimizer,
    save_sharded,
    save_sharded_optimizer,
)
from trainer_backend.worker.memory import device_name, least_way, next_way, usable_bytes
from trainer_backend.worker.nan_guard import NanGuard
from trainer_backend.worker.preflight import Preflight
from trainer_backend.worker.recorder import RecordRun
from trainer_backend.worker.resume import LESS, CurrentSchedule, Trial, settle_trial
from trainer_backend.worker.saving import Saving


class RunTrainer(SFTTrainer):
    """Trains one run: NaN guard, whole checkpoints, early stopping, FSDP shards, preflight checks.

    `parts` are those in which the estimate computes a step. `arguments` are those of SFTTrainer,
    without callbacks.
    """

    def __init__(
        self,
        facts: RunFacts,
        writer: RunWriter,
        stop_requested: Callable[[], bool],
        clock: Stopwatch,
        parts: int = 1,
        **arguments: Any,
    ):
        recipe, before = facts.recipe, writer.run.state()
        self.writer, self.clock = writer, clock
        self.sharded = recipe.distributed == "fsdp"
        self.guard, self.saving = NanGuard(self, writer), Saving(writer)
        self.early = StopEarly(writer, recipe.early_stopping_patience)
        record = RecordRun(writer, stop_requested, self.guard, self.saving, clock)
        super().__init__(**arguments, callbacks=[record, self.early, CurrentSchedule(), self.guard])
        self.remove_callback(PrinterCallback)  # RecordRun writes a readable log
        # before the callbacks that open an account of this run elsewhere (report_to)
        self.callback_handler.callbacks.insert(0, Preflight(self, writer, recipe, parts))
        device = self.args.device
        here = Trial(device_name(device), round(usable_bytes(device) / GIB, 2))
        self.trial, self.was_tried = settle_trial(before, here)
        self.merging.most = self.trial.part_tokens

    def _tell_of_content(self) -> None:
        """Nothing: the run's warnings name the rows as the file numbers them."""

    def _tell_path(self, sentence: str) -> None:
        super()._tell_path(sentence)
        facts = self.tried().facts() if hasattr(self, "trial") else {}
        self.writer.update(now=True, paths=list(self.paths.sentences), **facts)

    def tried(self) -> Trial:
        """What the trial and the steps so far have found out about memory."""
        way, begun, known = self.long_rows.way, self.long_rows.begun, self.trial.less
        new = [name for name in LESS if getattr(way, name) and not getattr(begun, name)]
        less = tuple(name for name in LESS if name in known or name in new)
        return replace(self.trial, part_tokens=self.merging.most, less=less)

    def _way(self) -> Way:
        return self.trial.added_to(least_way(self))

    def _next_way(self, way: Way) -> Way | None:
        return next_way(self, way)

    def check_finite(self) -> None:
        """Raises UserError if training was given up because of NaN or infinite values."""
        if self.guard.gave_up or self.saving.bad_weights:
            raise self.guard.error()

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As the Trainer's; without memory for it, in smaller batches, or warn and return {}."""
        evaluate = partial(super().evaluate, *args, **kwargs)
        with self.clock.during("evaluating"):
            return evaluate_if_room(evaluate, self.args, self.state.global_step, self.writer)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Train no extra step when a run resumes at its final step (the Trainer would do one).

        Such a run was killed during its evaluation, perhaps after early stopping.
        """
        if self.early.stopped or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        self.guard.grad_norm = super()._get_grad_norm(*args, **kwargs)
        return self.guard.grad_norm

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        write = partial(super()._save_checkpoint, model, trial)
        with self.clock.during("saving"):
            self.saving.save(write, model, self.state.global_step)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As the Trainer's; a sharded model is written whole, by the first process."""
        folder = output_dir or self.args.output_dir
        if self.sharded and folder:
            save_sharded(self, folder)
        else:
            super().save_model(output_dir, _internal_call)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.sharded:
            save_sharded_optimizer(self, output_dir)
        else:
            super()._save_optimizer_and_scheduler(output_dir)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: torch.nn.Module | None = None
    ) -> None:
        model = self.model if model is None else model
        if self.sharded and model is not None:
            load_sharded(model, resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if self.sharded:
            assert self.model is not None and self.state.best_model_checkpoint is not None
            load_sharded(self.model, self.state.best_model_checkpoint)
        else:
            super()._load_best_model()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self.sharded:
            load_sharded_optimizer(self, checkpoint)
        else:
            super()._load_optimizer_and_scheduler(checkpoint)
