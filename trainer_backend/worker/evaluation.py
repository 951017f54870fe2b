"""Evaluation that never aborts training; early stopping and the best checkpoint that follow it."""

import gc
from collections.abc import Callable

import torch
from transformers import Trainer, TrainerCallback

from trainer_backend.recipe import Recipe
from trainer_backend.runs import Run, RunWriter, is_out_of_memory

LEAST_GAIN = 1e-6  # of the eval loss; less is rounding


def evaluate_if_room(
    evaluate: Callable[[], dict[str, float]], step: int, writer: RunWriter
) -> dict[str, float]:
    """The metrics `evaluate` returns; none, and a warning, when the memory ran out for it."""
    writer.mark("evaluating")
    try:
        return evaluate()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    writer.warn(
        f"The memory ran out while measuring at step {step}: there is no eval loss for it. "
        "Training goes on; a smaller batch size leaves more room."
    )
    return {}


def warn_without_rows(recipe: Recipe, writer: RunWriter) -> None:
    """Say what the recipe asks for that needs an eval loss, when no row is held out for one."""
    asked = {
        "stopping early": recipe.early_stopping_patience > 0,
        "using the best checkpoint": recipe.load_best_at_end,
    }
    if idle := [what for what, wanted in asked.items() if wanted]:
        writer.warn(f"No rows are held out to measure with: {' and '.join(idle)} is not possible.")


class StopEarly(TrainerCallback):
    """Ends training when the eval loss has not fallen for some measurements in a row."""

    def __init__(self, writer: RunWriter, patience: int):
        self.writer, self.patience = writer, patience
        self.best: float | None = None
        self.without_gain = 0
        self.stopped = False

    def on_train_begin(self, args, state, control, **kwargs):
        for row in self.writer.run.metrics():  # what was measured before a resume counts
            if row["type"] == "eval" and row["step"] <= state.global_step:
                self._note(row.get("eval_loss"))
        self.stopped = self._had_stopped_at(state.global_step)

    def _had_stopped_at(self, step: int) -> bool:
        """Whether this run had stopped here, was killed then, and nobody asked for more since."""
        run = self.writer.run
        ends = [one for one in run.events()[0] if one["type"] == "early_stop"]
        if not ends or ends[-1].get("step") != step:
            return False
        longer = [one["t"] for one in run.recipe_changes() if one["why"] == "resumed"]
        return max(longer, default=0.0) < ends[-1]["t"]

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        self._note((metrics or {}).get("eval_loss"))
        if self.patience and self.without_gain >= self.patience:
            if state.global_step < state.max_steps:
                self.stopped = True
                self.writer.event("early_stop", step=state.global_step, best=self.best)
            control.should_training_stop = control.should_save = True
        return control

    def _note(self, loss: float | None) -> None:
        if loss is not None and (self.best is None or loss < self.best - LEAST_GAIN):
            self.best, self.without_gain = loss, 0
        else:
            self.without_gain += 1


def use_best(trainer: Trainer, run: Run, recipe: Recipe, writer: RunWriter) -> None:
    """Let the run end with its best checkpoint, in memory and for chat and export."""
    scored = [one for one in run.checkpoints() if one.eval_loss is not None]
    if not (recipe.load_best_at_end and scored):
        return
    best = min(scored, key=lambda one: one.eval_loss)
    if best.step != trainer.state.global_step:
        trainer.state.best_model_checkpoint = str(best.path)
        trainer._load_best_model()
    writer.update(now=True, result_step=best.step)
