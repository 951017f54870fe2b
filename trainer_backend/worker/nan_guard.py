"""Skips optimizer steps whose loss or gradient is NaN or infinite."""

import math

import torch
from transformers import Trainer, TrainerCallback

from trainer_backend.errors import UserError
from trainer_backend.runs import RunWriter
from trainer_backend.training.distributed import any_process
from trainer_backend.worker.fsdp import own_share

MAX_IN_A_ROW = 3
MAX_SCALED_IN_A_ROW = 24  # fp16 begins with a scale that overflows until it has been halved often


class FiniteGuard(TrainerCallback):
    """Skips a step whose loss or gradient is not finite; ends training after several in a row.

    A step is skipped by taking the gradients away: no optimizer moves a weight, a momentum or a
    decay without one. All processes decide alike. The trainer's loop tells callbacks neither the
    loss nor the gradient norm: the one is read from `trainer`, which sets the other here.
    """

    def __init__(self, trainer: Trainer, writer: RunWriter):
        self.writer = writer
        self.in_a_row = self.skipped = self.skipped_since_log = 0
        self.gave_up = False
        self.grad_norm: torch.Tensor | float | None = None
        self._overflows = 0
        self._trainer, self._loss_before = trainer, 0.0

    def on_step_begin(self, args, state, control, **kwargs):
        self._loss_before = self._trainer._tr_loss.clone()

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        what = self._wrong()
        if what is None:
            self.in_a_row = 0
            return control
        for group in self._trainer.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        self._trainer._tr_loss.copy_(self._loss_before)  # else the curve would be lost for good
        self._count(what, state.global_step + 1)
        if self.in_a_row > MAX_IN_A_ROW:
            self.gave_up = control.should_training_stop = True
        return control

    def _wrong(self) -> str | None:
        """“loss” or “gradient” when one is not finite; None when both are, or fp16 takes care."""
        loss_ok = bool(torch.isfinite(self._trainer._tr_loss))
        norm_ok = self.grad_norm is None or math.isfinite(float(self.grad_norm))
        if any_process(not loss_ok):
            return "loss"
        if any_process(not norm_ok):
            self._overflows += 1
            scaled = self._trainer.accelerator.scaler is not None
            return None if scaled and self._overflows <= MAX_SCALED_IN_A_ROW else "gradient"
        self._overflows = 0
        return None

    def _count(self, what: str, step: int) -> None:
        self.in_a_row += 1
        self.skipped += 1
        self.skipped_since_log += 1
        before = self.writer.run.state().get("skipped_steps") or 0
        self.writer.event("skipped", step=step, reason=what, in_a_row=self.in_a_row)
        self.writer.update(now=True, skipped_steps=before + 1)
        if self.skipped == 1:
            self.writer.warn(
                f"The {what} was not a number at step {step}: this correction was left out."
            )

    def mean_loss(self, logged: float, steps: int) -> float | None:
        """The mean over the steps that counted; None when none of them did. Begins anew."""
        counted = steps - self.skipped_since_log
        self.skipped_since_log = 0
        return logged * steps / counted if counted > 0 and math.isfinite(logged) else None

    def error(self) -> UserError:
        """What is said after giving up."""
        state, rate = self.writer.run.state(), self._trainer.args.learning_rate
        return UserError(
            f"The loss or gradient was not a number {self.in_a_row} times in a row.",
            f"step {state.get('step') or 0} of {state.get('total_steps') or '?'}, "
            f"learning rate {rate:g}, precision {state.get('precision') or '?'}",
            f"Start again with a lower learning rate, for example {rate / 3:.2g}.",
            code="nan_loss",
            offer={"retry": {"learning_rate": float(f"{rate / 3:.2g}")}},
        )


def weights_are_finite(model: torch.nn.Module) -> bool:
    """Whether every weight that learns is a number, on all processes."""
    learning = [own_share(one) for one in model.parameters() if one.requires_grad]
    bad = any(not bool(torch.isfinite(one).all()) for one in learning)
    return not any_process(bad)
