"""Records curves, progress and the time of a training in its run folder; stops it on request."""

import logging
import math
import time
from collections.abc import Callable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainer_backend.estimation.device import machine_key
from trainer_backend.estimation.plan import Plan, filler_share
from trainer_backend.estimation.shape import shape_of
from trainer_backend.estimation.timing import Stopwatch, Timing, write_timing
from trainer_backend.evaluation.limits import answer_limit, rows_in_group
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
EVALUATING = "Evaluating"  # what the page shows as the progress of an evaluation
EVALUATING_SHARE = 1 / 3  # of a training step: the forward pass alone
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
        self._clock = time.monotonic()
        self._tokens: float | None = 0.0
        self._logged = self._evaluated = 0  # step of the last log; batches of this evaluation
        self._left = TimeLeft()

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self._clock = time.monotonic()
        self._tokens = 0.0 if state.global_step == 0 else None
        self._logged = state.global_step
        self._left = TimeLeft(_eval_share(self.writer.run.state()))
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
        self._evaluated = 0
        self._left.note("step")
        self.writer.update(step=state.global_step, eta_seconds=self._eta(args, state))

    def _eta(self, args: TrainingArguments, state: TrainerState) -> float | None:
        seconds = self._left.seconds(args, state)
        return None if seconds is None else round(seconds, 1)

    def on_prediction_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        eval_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        self.writer.mark("evaluating")
        eta = self._eta(args, state)
        if eta is None:
            return  # a trial before the first step
        self._evaluated += 1
        total = len(eval_dataloader) if isinstance(eval_dataloader, Sized) else 0
        progress = {"what": EVALUATING, "done": self._evaluated, "total": total, "unit": "batches"}
        self.writer.update(progress=progress, eta_seconds=eta)

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

    def on_evaluate(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self._clock = time.monotonic()  # evaluation time is not training time
        self._left.note("evaluation")
        self.writer.update(now=True, progress=None, eta_seconds=self._eta(args, state))

    def on_save(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        last = control.should_training_stop or state.global_step >= state.max_steps
        with self.clock.during("saving"):
            self.saving.commit(state.global_step, self.eval_loss, last=last)
        if self.saving.bad_weights:
            control.should_training_stop = True
        self._left.note("save")
        self.writer.enter("running", eta_seconds=self._eta(args, state))
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


class TimeLeft:
    """Measures the parts of a training one after another and adds up what is left of them.

    Until the first evaluation its seconds are guessed from those of training on as many rows:
    `eval_share` is the number of held-out rows by that of the training rows. The evaluation after
    the last step has a time of its own and is not counted.
    """

    def __init__(self, eval_share: float = 0.0, clock: Callable[[], float] = time.monotonic):
        self._eval_share, self._clock = eval_share, clock
        self._since = clock()
        self._seconds: dict[str, list[float]] = {"step": [], "evaluation": [], "save": []}
        self._done_here: set[str] = set()  # what was done since the last step

    def begin(self) -> None:
        """Start the clock: what was before is preparation."""
        self._since = self._clock()

    def note(self, part: str) -> None:
        """The time since the last note was spent on `part`: "step", "evaluation" or "save"."""
        now = self._clock()
        self._seconds[part].append(now - self._since)
        self._since = now
        self._done_here = set() if part == "step" else {*self._done_here, part}

    def seconds(self, args: TrainingArguments, state: TrainerState) -> float | None:
        """Seconds to the end of the last step, its evaluation and its save; None before a step."""
        step = self._step()
        if step is None:
            return None
        last = state.max_steps
        evaluates = self._remaining("evaluation", args.eval_strategy, state.eval_steps, state)
        saves = self._remaining("save", args.save_strategy, state.save_steps, state)
        epoch = step * last / max(1e-9, state.num_train_epochs or 1)
        evaluation = self._mean("evaluation", epoch * self._eval_share * EVALUATING_SHARE)
        save = self._mean("save", 0.0)
        whole = (last - state.global_step) * step + evaluates * evaluation + saves * save
        return max(0.0, whole - (self._clock() - self._since))

    def _step(self) -> float | None:
        """Mean seconds of a step; the first one warms up and counts only while it is alone."""
        steps = self._seconds["step"]
        measured = steps[1:] or steps
        return sum(measured) / len(measured) if measured else None

    def _mean(self, part: str, otherwise: float) -> float:
        measured = self._seconds[part]
        return sum(measured) / len(measured) if measured else otherwise

    def _remaining(self, part: str, strategy: str, every: float, state: TrainerState) -> int:
        """How often `part` is still done: `every` so many steps, and after the last one."""
        kind, last = str(getattr(strategy, "value", strategy)), state.max_steps
        if kind == "epoch":
            every = last / max(1, math.ceil(state.num_train_epochs or 1))
        elif kind != "steps" or not every:
            return 0
        if state.global_step >= last:
            return int(part not in self._done_here)
        before = state.global_step - (0 if part in self._done_here else 1)
        return math.ceil(last / every - 1e-9) - math.floor(max(0, before) / every + 1e-9)


def _eval_share(run_state: dict[str, Any]) -> float:
    """The number of held-out rows by that of the training rows."""
    rows, held_out = (run_state.get(f"num_{name}_rows") or 0 for name in ("train", "eval"))
    return held_out / rows if rows else 0.0


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
    largest = np.sort(rows.total)[-trainer.merging.rows_at_once :]
    learned = rows.trained.sum() / max(1, rows.total.sum())
    asked = min(recipe.answer_check_rows, len(held_out.documents))
    answered = held_out.trained.sum() / max(1, len(held_out.documents))
    fills = trainer._filling is not None and len(rows.total) > 0
    share = filler_share(rows.total, trainer.merging.rows_at_once) if fills else 0.0
    size = rows_in_group(len(held_out.total), args.per_device_eval_batch_size)
    return Plan(
        rows=len(rows.documents),
        steps=steps,
        micro_batches=1 if trainer.merging.joins else args.gradient_accumulation_steps,
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
        filler=seen * share,
        answer_limit=answer_limit(held_out.trained),
        loss_groups=math.ceil(len(held_out.total) / size) if recipe.answer_check_rows else 0,
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
