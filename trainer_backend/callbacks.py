"""What a run records while it trains, and how it obeys a stop.

What training does is in sft_trainer.py.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
import torch.distributed as dist
from transformers import TrainerCallback

from .checkpoints import commit, rotate
from .run_writer import RunWriter

logger = logging.getLogger(__name__)
CURVES = ("loss", "learning_rate", "grad_norm", "mean_token_accuracy", "entropy")


class RecordRun(TrainerCallback):
    """Writes curves and checkpoints into the run folder; ends training when asked to."""

    def __init__(self, writer: RunWriter, stop_requested: Callable[[], bool]):
        self.writer, self.stop_requested = writer, stop_requested
        self.eval_loss: float | None = None
        self._clock, self._tokens, self._first = time.monotonic(), 0.0, None

    def on_train_begin(self, args, state, control, **kwargs):
        self._clock, self._first = time.monotonic(), (time.monotonic(), state.global_step)
        self._tokens = 0.0 if state.global_step == 0 else None
        self.writer.enter(
            "running", step=state.global_step, total_steps=state.max_steps, progress=None
        )

    def on_step_end(self, args, state, control, **kwargs):
        last = state.global_step >= state.max_steps
        if last and args.eval_strategy != "no":
            control.should_evaluate = True
        if _any_process(self.stop_requested()):
            control.should_training_stop = True
        if last or control.should_training_stop:
            control.should_save = True
        self.writer.update(step=state.global_step, **self._time_left(state))
        return control

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not logs or "train_runtime" in logs:
            return
        facts = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4)}
        if "eval_loss" in logs:
            self.eval_loss = logs["eval_loss"]
            scores = {
                k: v for k, v in logs.items() if k in ("eval_loss", "eval_mean_token_accuracy")
            }
            self.writer.event("eval", **facts, **scores)
            logger.info(
                "step %d of %d  eval loss %.4f", facts["step"], state.max_steps, self.eval_loss
            )
            self.writer.update(now=True, **facts, eval_loss=self.eval_loss)
        elif "loss" in logs:
            facts |= {k: logs[k] for k in CURVES if k in logs} | self._speed(logs)
            self.writer.event("metrics", **facts)
            self.writer.update(**facts)
            logger.info(
                "step %d of %d  loss %.4f  learning rate %.2e",
                *(facts["step"], state.max_steps, facts["loss"], facts["learning_rate"]),
            )

    def on_evaluate(self, args, state, control, **kwargs):
        self._clock = time.monotonic()  # evaluation time is not training time

    def on_save(self, args, state, control, **kwargs):
        if dist.is_initialized():
            dist.barrier()  # every process has written its part
        if not state.is_world_process_zero:
            return
        self.writer.enter("saving")
        path = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        commit(path, state.global_step, self.eval_loss)
        rotate(Path(args.output_dir))
        self.writer.event("checkpoint", step=state.global_step)
        logger.info("checkpoint of step %d is safe", state.global_step)
        self.writer.enter("running")
        self._clock = time.monotonic()

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


def _any_process(flag: bool) -> bool:
    """Whether any process of the run says so: all of them must stop after the same step."""
    if not dist.is_initialized():
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    seen = torch.tensor(int(flag), device=device)
    dist.all_reduce(seen, dist.ReduceOp.MAX)
    return bool(seen)


def memory_used() -> int:
    """Bytes in use: the GPU's peak where there is one, else this process's memory now."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return psutil.Process().memory_info().rss
