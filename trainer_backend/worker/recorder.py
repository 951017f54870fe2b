"""Records curves, progress and the time of a training in its run folder; stops it on request."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainer_backend.estimation.device import machine_key
from trainer_backend.estimation.plan import Plan
from trainer_backend.estimation.shape import shape_of
from trainer_backend.estimation.timing import Stopwatch, Timing, write_timing
from trainer_backend.hardware import hardware
from trainer_backend.home import read_json
from trainer_backend.processes import peak_memory
from trainer_backend.recipe import Recipe
from trainer_backend.runs import RunWriter
from trainer_backend.tokens.tokenise import IGNORED
from trainer_backend.training.distributed import any_process
from trainer_backend.training.sft_trainer import SFTTrainer
from trainer_backend.worker.facts import RunFacts
from trainer_backend.worker.nan_guard import NanGuard
from trainer_backend.worker.saving import Saving

logger = logging.getLogger(__name__)
CURVES = ("loss", "learning_rate", "grad_norm", "mean_token_accuracy", "entropy")


class RecordRun(TrainerCallback):
    """Writes curves and commits checkpoints in the run folder; ends training on a stop request."""

    def __init__(
        self,
        writer: RunWriter,
        stop_requested: Callable[[], bool],
        guard: NanGuard,
        saving: Saving,
        clock: Stopwatch,
    ):
        self.writer, self.stop_requested = writer, stop_requested
        self.guard, self.saving, self.clock = guard, saving, clock
        self.eval_loss: float | None = None
        self._clock = self._began = time.monotonic()
        self._tokens: float | None = 0.0
        self._first_step = self._logged = 0

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self._clock = self._began = time.monotonic()
        self._tokens = 0.0 if state.global_step == 0 else None
        self._first_step = self._logged = state.global_step
        self.clock.enter("training")
        self.writer.enter(
            "running", step=state.global_step, total_steps=state.max_steps, progress=None
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        last = state.global_step >= state.max_steps
        if last and args.eval_strategy != "no":
            control.should_evaluate = True
        if any_process(self.stop_requested()):
            control.should_training_stop = True
        if last or control.should_training_stop:
            control.should_save = True
        if self.writer.heart:
            self.writer.heart.step()
        done, left = state.global_step - self._first_step, state.max_steps - state.global_step
        seconds = (time.monotonic() - self._began) / max(done, 1) * max(0, left)
        self.writer.update(step=state.global_step, eta_seconds=round(seconds, 1))

    def on_prediction_step(self, *_: Any, **kwargs: Any) -> None:
        self.writer.mark("evaluating")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not logs or "train_runtime" in logs:
            return
        facts = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4)}
        if "eval_loss" in logs:
            self._log_evaluation(facts, logs, state.max_steps)
        elif "loss" in logs:
            self._log_training(facts, logs, state.max_steps)
        _make_strict(state.log_history[-1])

    def _log_evaluation(self, facts: dict[str, Any], logs: dict[str, float], steps: int) -> None:
        loss = logs["eval_loss"]
        self.eval_loss = loss if math.isfinite(loss) else None
        scores = {k: v for k, v in logs.items() if k in ("eval_loss", "eval_mean_token_accuracy")}
        self.writer.event("eval", **facts, **scores)
        logger.info("step %d of %d  eval loss %.4f", facts["step"], steps, loss)
        self.writer.update(now=True, **facts, eval_loss=self.eval_loss)

    def _log_training(self, facts: dict[str, Any], logs: dict[str, float], steps: int) -> None:
        loss = self.guard.mean_loss(logs["loss"], facts["step"] - self._logged)
        self._logged = facts["step"]
        logs["loss"] = math.nan if loss is None else loss
        facts |= {k: logs[k] for k in CURVES if k in logs} | self._speed(logs)
        self.writer.event("metrics", **facts)
        self.writer.update(**facts)
        logger.info(
            "step %d of %d  loss %.4f  learning rate %.2e",
            *(facts["step"], steps, facts["loss"], facts["learning_rate"]),
        )

    def on_evaluate(self, *_: Any, **kwargs: Any) -> None:
        self._clock = time.monotonic()  # evaluation time is not training time

    def on_save(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        last = control.should_training_stop or state.global_step >= state.max_steps
        with self.clock.during("saving"):
            self.saving.commit(state.global_step, self.eval_loss, last=last)
        if self.saving.bad_weights:
            control.should_training_stop = True
        self.writer.enter("running")
        self._clock = time.monotonic()

    def _speed(self, logs: dict[str, float]) -> dict[str, float]:
        now, tokens = time.monotonic(), logs.get("num_tokens", 0.0)
        before = tokens if self._tokens is None else self._tokens  # unknown right after a resume
        speed = (tokens - before) / max(now - self._clock, 1e-9)
        self._clock, self._tokens = now, tokens
        return {
            "num_tokens": int(tokens),
            "tokens_per_second": round(speed, 1),
            "memory_gb": round(memory_used() / 2**30, 2),
        }


def _make_strict(row: dict[str, Any]) -> None:
    """Replace NaN and infinite values: the Trainer saves its log as JSON."""
    for name, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            row[name] = None


def memory_used() -> int:
    """Bytes that this process held at its peak: on the GPU if there is one, else in RAM."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return peak_memory()


# How long the run took, for later estimates


def record_timing(
    trainer: SFTTrainer, facts: RunFacts, base: Path, clock: Stopwatch, saves: int
) -> None:
    """Write the seconds of each phase and the work done in them; `base` is the model's folder.

    Not for a run that was resumed or sees images: its work is not known.
    """
    shape = shape_of(read_json(base / "config.json", {}))
    first = facts.run.state().get("attempt") == 1
    rows, steps = trainer.train_dataset, trainer.state.global_step
    if not (first and shape and steps and isinstance(rows, Dataset)):
        return
    if not trainer.is_world_process_zero() or "input_ids" not in rows.column_names:
        return
    recipe, machine = facts.recipe, machine_key(hardware())
    plan = work_done(trainer, recipe, saves)
    clock.enter("")
    spent = ({k: round(v, 3) for k, v in one.items()} for one in (clock.seconds, clock.processor))
    write_timing(facts.run.dir, Timing(machine, recipe.to_dict(), shape, plan, *spent))


def work_done(trainer: SFTTrainer, recipe: Recipe, saves: int) -> Plan:
    """The work of a training that has ended; token columns are those of the trainer's rows."""
    rows, held_out = Tokens.of(trainer.train_dataset), Tokens.of(trainer.eval_dataset)
    steps, args = trainer.state.global_step, trainer.args
    seen = trainer._meters["train"].num_tokens / steps
    largest = np.sort(rows.total)[-args.per_device_train_batch_size :]
    learned = rows.trained.sum() / max(1, rows.total.sum())
    asked = min(recipe.answer_check_rows, len(held_out.documents))
    answered = held_out.trained.sum() / max(1, len(held_out.documents))
    return Plan(
        rows=len(rows.documents),
        steps=steps,
        micro_batches=args.gradient_accumulation_steps,
        step_tokens=seen,
        step_trained=seen * learned,
        row_tokens=rows.document_mean,
        longest_row=int(rows.total.max(initial=0)),
        longest_batch=int(largest.sum()),
        longest_trained=int(largest.sum() * learned),
        eval_runs=sum("eval_loss" in row for row in trainer.state.log_history),
        eval_tokens=int(held_out.total.sum()),
        eval_trained=int(held_out.trained.sum()),
        saves=saves,
        answer_rows=asked,
        answer_tokens=answered,
        prompt_tokens=held_out.documents.sum() / max(1, len(held_out.documents)) - answered,
        longest_answer=int(held_out.trained.max(initial=0)),
    )


@dataclass(frozen=True)
class Tokens:
    """Tokens of the rows of a dataset, trained tokens of them, and of the documents in the rows."""

    total: np.ndarray  # int64, like the other two
    trained: np.ndarray
    documents: np.ndarray

    @classmethod
    def of(cls, rows: object) -> "Tokens":
        """Count a tokenised dataset; anything else has no rows."""
        if not isinstance(rows, Dataset) or "labels" not in rows.column_names:
            return cls(*(np.zeros(0, np.int64) for _ in range(3)))
        table = rows.with_format("arrow")[:]
        total = pc.list_value_length(table["input_ids"]).to_numpy().astype(np.int64)
        learned = pc.not_equal(pc.list_flatten(table["labels"]), IGNORED).to_numpy()
        ends = np.concatenate([[0], total.cumsum()])
        trained = np.diff(np.concatenate([[0], learned.cumsum()])[ends])
        packed = "seq_lengths" in table.column_names
        documents = pc.list_flatten(table["seq_lengths"]).to_numpy() if packed else total
        return cls(total, trained, documents.astype(np.int64))

    @property
    def document_mean(self) -> float:
        """Mean tokens that one token may attend to: long documents count by their tokens."""
        return float((self.documents**2).sum() / max(1, self.documents.sum()))
