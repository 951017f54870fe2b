"""What a run records while it trains, and how it obeys a stop."""

import logging
import math
import time
from collections.abc import Callable

import psutil
import torch
from transformers import TrainerCallback

from trainer_backend.runs import RunWriter
from trainer_backend.training.distributed import any_process
from trainer_backend.worker.nan_guard import FiniteGuard
from trainer_backend.worker.saving import Saving

logger = logging.getLogger(__name__)
CURVES = ("loss", "learning_rate", "grad_norm", "mean_token_accuracy", "entropy")


class RecordRun(TrainerCallback):
    """Writes curves and checkpoints into the run folder; ends training when asked to."""

    def __init__(
        self,
        writer: RunWriter,
        stop_requested: Callable[[], bool],
        guard: FiniteGuard,
        saving: Saving,
    ):
        self.writer, self.stop_requested = writer, stop_requested
        self.guard, self.saving = guard, saving
        self.eval_loss: float | None = None
        self._clock, self._tokens, self._first = time.monotonic(), 0.0, None
        self._logged = 0

    def on_train_begin(self, args, state, control, **kwargs):
        self._clock, self._first = time.monotonic(), (time.monotonic(), state.global_step)
        self._tokens = 0.0 if state.global_step == 0 else None
        self._logged = state.global_step
        self.writer.enter(
            "running", step=state.global_step, total_steps=state.max_steps, progress=None
        )

    def on_step_end(self, args, state, control, **kwargs):
        last = state.global_step >= state.max_steps
        if last and args.eval_strategy != "no":
            control.should_evaluate = True
        if any_process(self.stop_requested()):
            control.should_training_stop = True
        if last or control.should_training_stop:
            control.should_save = True
        if self.writer.heart:
            self.writer.heart.step()
        self.writer.update(step=state.global_step, **self._time_left(state))
        return control

    def on_prediction_step(self, args, state, control, **kwargs):
        self.writer.mark("evaluating")

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not logs or "train_runtime" in logs:
            return
        facts = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4)}
        if "eval_loss" in logs:
            self._log_evaluation(facts, logs, state.max_steps)
        elif "loss" in logs:
            self._log_training(facts, logs, state.max_steps)
        _make_strict(state.log_history[-1])

    def _log_evaluation(self, facts: dict, logs: dict, steps: int) -> None:
        loss = logs["eval_loss"]
        self.eval_loss = loss if math.isfinite(loss) else None
        scores = {k: v for k, v in logs.items() if k in ("eval_loss", "eval_mean_token_accuracy")}
        self.writer.event("eval", **facts, **scores)
        logger.info("step %d of %d  eval loss %.4f", facts["step"], steps, loss)
        self.writer.update(now=True, **facts, eval_loss=self.eval_loss)

    def _log_training(self, facts: dict, logs: dict, steps: int) -> None:
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

    def on_evaluate(self, args, state, control, **kwargs):
        self._clock = time.monotonic()  # evaluation time is not training time

    def on_save(self, args, state, control, **kwargs):
        last = control.should_training_stop or state.global_step >= state.max_steps
        self.saving.commit(state.global_step, self.eval_loss, last=last)
        if self.saving.bad_weights:
            control.should_training_stop = True
        self.writer.enter("running")
        self._clock = time.monotonic()
        return control

    def _speed(self, logs: dict) -> dict:
        now, tokens = time.monotonic(), logs.get("num_tokens", 0.0)
        before = tokens if self._tokens is None else self._tokens  # unknown right after a resume
        speed = (tokens - before) / max(now - self._clock, 1e-9)
        self._clock, self._tokens = now, tokens
        return {
            "num_tokens": int(tokens),
            "tokens_per_second": round(speed, 1),
            "memory_gb": round(memory_used() / 2**30, 2),
        }

    def _time_left(self, state) -> dict:
        began, step = self._first
        done = state.global_step - step
        each = (time.monotonic() - began) / max(done, 1)
        return {"eta_seconds": round(each * max(0, state.max_steps - state.global_step), 1)}


def _make_strict(row: dict) -> None:
    """The trainer keeps its log in JSON that other readers must be able to parse."""
    for name, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            row[name] = None


def memory_used() -> int:
    """Bytes in use: the GPU's peak where there is one, else this process's memory now."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return psutil.Process().memory_info().rss
