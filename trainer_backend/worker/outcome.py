"""The end of a run: base and tuned model are evaluated on the held-out rows, whatever happens.

A stop, a full memory or a full disk costs the evaluation and never the run.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from peft import PeftModel

from trainer_backend.corrections import mixes_corrections, trained_corrections, with_outcome
from trainer_backend.disk import GIB, size_of
from trainer_backend.downloads import Progress
from trainer_backend.errors import UserError, is_out_of_memory
from trainer_backend.evaluation.engine.evaluate import (
    Task,
    evaluate_models,
    last_position,
    limits_of,
    sample_questions,
)
from trainer_backend.evaluation.engine.losses import HeldOutRows
from trainer_backend.evaluation.engine.sampling import SampleAnswers
from trainer_backend.evaluation.engine.sides import Sides, of_adapter, of_two
from trainer_backend.evaluation.results import LOSSES, keep
from trainer_backend.hardware import hardware
from trainer_backend.models.loaded.load import load_base, load_tuned
from trainer_backend.models.loaded.pretrained import AnyModel, tokenizer_of
from trainer_backend.recipe.metrics import parse_metrics
from trainer_backend.training.capabilities import causal_lm
from trainer_backend.training.sft_trainer import SFTTrainer
from trainer_backend.worker.arguments import shards_model
from trainer_backend.worker.facts import RunFacts
from trainer_backend.worker.run_trainer import RunTrainer

MOST_CORRECTIONS = 200  # asked at the end of a run that was trained on them


logger = logging.getLogger(__name__)
# of a model that answers in another way than any that was tried: the run has its result already
BREAKS = (MemoryError, RuntimeError, ArithmeticError, AttributeError, LookupError, TypeError,
          ValueError)  # fmt: skip


class Stopped(Exception):
    """The user asked for a stop, and nothing has to be finished first."""


def evaluate_result(
    facts: RunFacts, base: Path, trainer: RunTrainer, progress: Progress
) -> dict[str, Any] | None:
    """Evaluate the run's result and keep it; {"rows", "base", "tuned"} are its exact matches.

    None without held-out rows, where it is switched off, or where it was left out: a warning of the
    run says why.
    """
    writer = trainer.writer
    if not facts.recipe.answer_check_rows or not len(facts.held_out_at):
        return None
    try:
        return _evaluated(facts, base, trainer, progress)
    except Stopped:
        why = "you stopped it. The model is finished"
    except UserError as error:
        why = f"{error.what} {error.fix}".rstrip(".")
    except OSError as error:
        why = f"it cannot be written ({error.strerror or error})"
    except BREAKS as error:
        why = _reason(error)
    writer.warn(f"The evaluation was left out: {why}.")
    return None


def _reason(error: Exception) -> str:
    """Why an evaluation broke off, in words; the log keeps the trace of what nobody expected."""
    if is_out_of_memory(error):
        return "there is no memory for it, even for one row at a time. The model is finished"
    logger.error("the evaluation broke off", exc_info=error)
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"it broke off ({lines[0][:160]}). The model is finished; the log says more"


def _evaluated(
    facts: RunFacts, base: Path, trainer: RunTrainer, progress: Progress
) -> dict[str, Any] | None:
    recipe, result = facts.recipe, facts.run.result()
    sides = _sides(facts, base, trainer)
    if sides is None:
        return None
    task = Task(
        run=facts.run,
        recipe=recipe,
        stored=facts.dataset,
        at=facts.held_out_at,
        step=result.step if result else trainer.state.global_step,
        asked=recipe.answer_check_rows,
        wanted=parse_metrics(recipe.eval_metrics),
        positions=_positions(trainer),
    )
    processing: Any = trainer.processing_class  # the tokenizer or processor given to it
    found, scored = evaluate_models(task, sides, _held_out(trainer), processing, progress)
    if mixes_corrections(facts.dataset) and found.main not in LOSSES:
        _ask_corrections(task, sides, processing, progress, found.main)
        found = with_outcome(facts.run, found)
    keep(facts.run, found)
    return {"rows": len(found.examples), **scored.right} if scored.right else None


def _ask_corrections(
    task: Task, sides: Sides, processing: Any, progress: Progress, main: str
) -> None:
    """Ask the corrections that the run was trained on, if any, and keep how they are answered."""
    corrections = trained_corrections(task.run)
    if corrections is None:
        return
    at = np.arange(corrections.num_examples, dtype=np.int64)
    asked = min(len(at), MOST_CORRECTIONS)
    again = replace(
        task, stored=corrections, at=at, asked=asked, wanted=(main,), held_out=False, notes=()
    )
    keep(task.run, evaluate_models(again, sides, None, processing, progress)[0])


def _positions(trainer: SFTTrainer) -> int | None:
    return last_position(
        causal_lm(trainer.accelerator.unwrap_model(trainer.model)).config.to_dict()
    )


def _held_out(trainer: SFTTrainer) -> HeldOutRows | None:
    """The rows of the eval loss, read as the trainer reads them."""
    rows = trainer.eval_dataset
    if not isinstance(rows, Dataset):
        return None
    known = causal_lm(trainer.accelerator.unwrap_model(trainer.model)), trainer._traits
    most = trainer.args.per_device_eval_batch_size
    return HeldOutRows(rows, trainer._data, most, known, trainer.compute_loss_context_manager)


def _sides(facts: RunFacts, base: Path, trainer: RunTrainer) -> Sides | None:
    """Both models; None and a warning if there is no memory for a sharded one as a whole."""
    recipe = facts.recipe
    tuned = _tuned(facts, base, trainer)
    if tuned is None:
        return None
    parted = trainer.pissa is not None and not shards_model(recipe)
    if isinstance(tuned, PeftModel) and not parted:
        return of_adapter(tuned)
    return of_two(base, tuned, recipe.precision)  # PiSSA has changed the base weights, too


def _tuned(facts: RunFacts, base: Path, trainer: RunTrainer) -> AnyModel | None:
    """The trained model, unsharded."""
    recipe, result = facts.recipe, facts.run.result()
    if not shards_model(recipe):
        return trainer.accelerator.unwrap_model(trainer.model)
    if 2 * size_of(base) > hardware().memory_free * GIB:
        trainer.writer.warn(
            "The evaluation was left out: the whole model does not fit into memory."
        )
        return None
    whole = None if recipe.adapter == "full" else load_base(base, recipe.precision)
    assert result is not None  # the last step always saves
    return load_tuned(result.path, whole, recipe.precision)


def sampling(facts: RunFacts, trainer: RunTrainer) -> SampleAnswers | None:
    """What asks a few held-out rows while the run trains; None where that is switched off."""
    recipe, held_out = facts.recipe, facts.held_out_at
    if not recipe.sample_rows or not len(held_out) or facts.dataset.format == "text":
        return None
    processing: Any = trainer.processing_class
    most = _positions(trainer)
    task = Task(facts.run, recipe, facts.dataset, held_out, 0, recipe.sample_rows, positions=most)
    ready = sample_questions(task, processing)
    if not ready:
        return None

    def whole() -> AnyModel | None:
        return None if shards_model(recipe) else trainer.accelerator.unwrap_model(trainer.model)

    before = sum(trainer.clock.seconds.values())
    limits = limits_of(ready, most)
    return SampleAnswers(trainer.writer, ready, limits, tokenizer_of(processing), whole, before)
