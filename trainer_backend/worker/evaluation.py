"""Evaluation that never aborts training, early stopping, and the choice of the best checkpoint."""

import gc
from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from trainer_backend.errors import is_out_of_memory
from trainer_backend.recipe import Recipe
from trainer_backend.runs import Run, RunWriter, best_of

LEAST_GAIN = 1e-6  # a smaller decrease of the evaluation loss is rounding error


def evaluate_if_room(
    evaluate: Callable[[], dict[str, float]], args: TrainingArguments, step: int, writer: RunWriter
) -> dict[str, float]:
    """The metrics of `evaluate`; without memory for it, of half as many rows at a time, to one.

    Without memory for a single row: {} and a warning in the run that says what was tried. Several
    processes try once: if one of them ran out of memory, the others wait for it.
    """
    tried: list[int] = []
    while True:
        writer.mark("evaluating")
        tried.append(args.per_device_eval_batch_size)
        try:
            metrics = evaluate()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            if len(tried) > 1:
                writer.warn(_fewer_at_once(tried, step))
            return metrics
        writer.update(progress=None)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if tried[-1] == 1 or args.world_size > 1:
            writer.warn(_no_evaluation(tried, step))
            return {}
        args.per_device_eval_batch_size = max(1, tried[-1] // 2)


def _fewer_at_once(tried: list[int], step: int) -> str:
    rows = "1 row at a time" if tried[-1] == 1 else f"{tried[-1]} rows at a time"
    return (
        f"The memory ran out during the evaluation at step {step} with {tried[-2]} rows at a time: "
        f"it is done with {rows} from now on (the same loss, slower)."
    )


def _no_evaluation(tried: list[int], step: int) -> str:
    *more, last = map(str, tried)
    sizes = f"{', '.join(more)} and {last}" if more else last
    return (
        f"The memory ran out during the evaluation at step {step}: it has no eval loss. Tried with "
        f"{sizes} {'row' if sizes == '1' else 'rows'} at a time. Training continues; a shorter "
        "maximum length leaves more memory."
    )


def warn_without_rows(recipe: Recipe, writer: RunWriter) -> None:
    """Warn about settings that need an evaluation loss when no rows are held out."""
    asked = {
        "early stopping": recipe.early_stopping_patience > 0,
        "best checkpoint": recipe.load_best_at_end,
    }
    if idle := [what for what, wanted in asked.items() if wanted]:
        writer.warn(f"No rows are held out for evaluation; without effect: {', '.join(idle)}.")


class StopEarly(TrainerCallback):
    """Stops training when `patience` evaluations in a row have not lowered the evaluation loss."""

    def __init__(self, writer: RunWriter, patience: int):
        self.writer, self.patience = writer, patience
        self.best: float | None = None
        self.without_gain = 0
        self.stopped = False

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        for row in self.writer.run.metrics():  # evaluations before a resume count
            if row["type"] == "eval" and row["step"] <= state.global_step:
                self._note(row.get("eval_loss"))
        self.stopped = self._had_stopped_at(state.global_step)

    def _had_stopped_at(self, step: int) -> bool:
        """Whether this run had stopped early at this step and was not extended since."""
        run = self.writer.run
        ends = [one for one in run.events()[0] if one["type"] == "early_stop"]
        if not ends or ends[-1].get("step") != step:
            return False
        longer = [one["t"] for one in run.recipe_changes() if one["why"] == "resumed"]
        return max(longer, default=0.0) < ends[-1]["t"]

    def on_evaluate(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        self._note((metrics or {}).get("eval_loss"))
        if self.patience and self.without_gain >= self.patience:
            if state.global_step < state.max_steps:
                self.stopped = True
                self.writer.event("early_stop", step=state.global_step, best=self.best)
            control.should_training_stop = control.should_save = True

    def _note(self, loss: float | None) -> None:
        if loss is not None and (self.best is None or loss < self.best - LEAST_GAIN):
            self.best, self.without_gain = loss, 0
        else:
            self.without_gain += 1


def use_best(trainer: Trainer, run: Run, recipe: Recipe, writer: RunWriter) -> None:
    """Load the best checkpoint at the end, if the recipe asks for it, and make it the result."""
    best = best_of(run.checkpoints())
    if not recipe.load_best_at_end or best is None:
        return
    if best.step != trainer.state.global_step:
        trainer.state.best_model_checkpoint = str(best.path)
        trainer._load_best_model()
    writer.update(now=True, result_step=best.step)
