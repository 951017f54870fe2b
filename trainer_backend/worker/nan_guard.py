"""Skips optimizer steps whose loss or gradient is NaN or infinite."""

import math
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState

from trainer_backend.errors import UserError
from trainer_backend.runs import RunWriter
from trainer_backend.training.distributed import any_process
from trainer_backend.worker.fsdp import own_shard

MAX_IN_A_ROW = 3
MAX_SCALED_IN_A_ROW = 24  # fp16 starts with a loss scale that overflows until it was halved often


class NanGuard(TrainerCallback):
    """Skips an optimizer step whose loss or gradient is not finite; stops after several in a row.

    Skipping means removing the gradients: without one, an optimizer changes neither weight nor
    momentum. All processes decide alike. The Trainer passes neither loss nor gradient norm to
    callbacks: the loss is read from `trainer`, which sets `grad_norm`.
    """

    def __init__(self, trainer: Trainer, writer: RunWriter):
        self.writer = writer
        self.in_a_row = self.skipped = self.skipped_since_log = 0
        self.gave_up = False
        self.grad_norm: torch.Tensor | float | None = None
        self._overflows = 0
        self._trainer, self._loss_before = trainer, torch.tensor(0.0)

    def on_step_begin(self, *_: Any, **kwargs: Any) -> None:
        self._loss_before = self._trainer._tr_loss.clone()

    def on_pre_optimizer_step(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        what = self._wrong()
        if what is None:
            self.in_a_row = 0
            return
        assert self._trainer.optimizer is not None
        for group in self._trainer.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        self._trainer._tr_loss.copy_(self._loss_before)  # else all later losses would be NaN
        self._count(what, state.global_step + 1)
        if self.in_a_row > MAX_IN_A_ROW:
            self.gave_up = control.should_training_stop = True

    def _wrong(self) -> str | None:
        """“loss” or “gradient” if it is not finite; None if both are, or the fp16 scaler skips."""
        loss_ok, norm_ok = self._finite()
        if any_process(not loss_ok):
            return "loss"
        if any_process(not norm_ok):
            self._overflows += 1
            scaled = self._trainer.accelerator.scaler is not None
            return None if scaled and self._overflows <= MAX_SCALED_IN_A_ROW else "gradient"
        self._overflows = 0
        return None

    def _finite(self) -> tuple[bool, bool]:
        """Whether the loss and the norm of the gradients are finite; asks the device once."""
        loss, norm = self._trainer._tr_loss, self.grad_norm
        if type(norm) is not torch.Tensor:  # none, a number, or sharded
            known = norm is None or math.isfinite(float(norm))
            return bool(torch.isfinite(loss)), known
        both = torch.stack((loss.float(), norm.to(loss.device).float()))
        loss_ok, norm_ok = torch.isfinite(both).tolist()
        return loss_ok, norm_ok

    def _count(self, what: str, step: int) -> None:
        self.in_a_row += 1
        self.skipped += 1
        self.skipped_since_log += 1
        before = self.writer.run.state().get("skipped_steps") or 0
        self.writer.event("skipped", step=step, reason=what, in_a_row=self.in_a_row)
        self.writer.update(now=True, skipped_steps=before + 1)
        if self.skipped == 1:
            self.writer.warn(
                f"The {what} was NaN or infinite at step {step}: this optimizer step was skipped."
            )

    def mean_loss(self, logged: float, steps: int) -> float | None:
        """The mean loss of the steps not skipped, None if all were; resets the count of skips."""
        counted = steps - self.skipped_since_log
        self.skipped_since_log = 0
        return logged * steps / counted if counted > 0 and math.isfinite(logged) else None

    def error(self) -> UserError:
        """The error after giving up, with a retry at a third of the learning rate."""
        state, rate = self.writer.run.state(), self._trainer.args.learning_rate
        return UserError(
            f"The loss or gradient was NaN or infinite {self.in_a_row} times in a row.",
            f"step {state.get('step') or 0} of {state.get('total_steps') or '?'}, "
            f"learning rate {rate:g}, precision {state.get('precision') or '?'}",
            f"Start again with a lower learning rate, for example {rate / 3:.2g}.",
            code="nan_loss",
            offer={"retry": {"learning_rate": float(f"{rate / 3:.2g}")}},
        )


def weights_are_finite(model: torch.nn.Module) -> bool:
    """Whether all trainable weights are finite, on all processes."""
    learning = [own_shard(one) for one in model.parameters() if one.requires_grad]
    bad = any(not bool(torch.isfinite(one).all()) for one in learning)
    return not any_process(bad)
