"""Checks of disk, memory, tokens and labels with the loaded model, before the first step.

Checks that need only the settings are not here.
"""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from transformers import (
    PreTrainedTokenizerBase,
    ProcessorMixin,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)

from trainer_backend.disk import free_bytes, in_words, size_of
from trainer_backend.errors import UserError
from trainer_backend.estimation.memory import optimizer_bytes
from trainer_backend.estimation.storage import EXTRA_BYTES, KEPT, RESERVE_BYTES
from trainer_backend.recipe import Recipe, changed_to, label
from trainer_backend.runs import RunWriter
from trainer_backend.training.sft_trainer import SFTTrainer
from trainer_backend.worker.memory import check_training_fits
from trainer_backend.worker.resume import Trial


class Preflight(TrainerCallback):
    """Checks disk, tokens and labels, then runs forward and backward on the longest batch.

    The batch holds the longest rows of a whole optimizer step where batches are merged, and is
    tried in more parts until it fits; `parts` are those that the estimate begins with. Random
    states, gradients, counters and weights are restored.
    """

    def __init__(self, trainer: Any, writer: RunWriter, recipe: Recipe, parts: int = 1):
        self.writer, self.recipe = writer, recipe
        self._trainer, self._parts = trainer, parts
        self._before = writer.run.state()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any
    ) -> None:
        trainer = self._trainer
        model: Any = trainer.model  # as a PreTrainedModel or an adapted one
        assert args.output_dir is not None
        if self.writer.enabled:
            saves = planned_saves(state.max_steps - state.global_step, state.save_steps)
            check_disk(Path(args.output_dir), checkpoint_bytes(model, self.recipe), saves)
        rows = trainer.train_dataset
        if not isinstance(rows, Dataset) or "input_ids" not in rows.column_names:
            return  # rows with images and streams have no lengths beforehand
        merging = trainer.merging
        self.writer.update(batch_rows=min(len(rows), args.per_device_train_batch_size))
        longest = longest_rows(rows, merging.rows_at_once)
        check_tokens(rows, model.get_input_embeddings().weight.shape[0])
        chosen = trainer._remove_unused_columns(rows.select(longest), "training")
        batch = trainer.data_collator(list(chosen))
        check_labels(batch, longest)
        if state.global_step == 0 or self._is_due():
            self._try(batch)

    def _is_due(self) -> bool:
        """Whether a resumed run has to try again: on another device, or with other memory.

        An earlier version has left no word on where it tried; then only a step that cannot be done
        again, or runs on a GPU, is tried.
        """
        trainer = self._trainer
        if trainer.was_tried:
            return False
        known = Trial.of(self._before) is not None
        alone = trainer.merging.retries or not trainer.merging.joins
        return known or not alone or trainer.args.device.type == "cuda"

    def _try(self, batch: dict[str, Any]) -> None:
        trainer, tokens = self._trainer, batch["input_ids"].numel()
        what = f"Trying the longest batch ({tokens} tokens)"
        self.writer.progress(what, 0, 1, "step")
        merging = trainer.merging
        if merging.able and merging.most is None and self._parts > 1:
            why = "by the estimate all of it does not fit into the free memory"
            merging.limit(math.ceil(tokens / self._parts), why)
        with restored(trainer), peak_forgotten():
            merging.try_out(
                trainer._compute_part,
                trainer.model_wrapped,
                batch,
                lambda: check_training_fits(trainer, self.recipe),
            )
        self.writer.update(**trainer.tried().facts())
        self.writer.progress(what, 1, 1, "step")


def check_images(
    has_images: bool, processing: PreTrainedTokenizerBase | ProcessorMixin, base_model: str
) -> None:
    """Raises UserError for rows with images if the model reads only text (has no processor)."""
    if has_images and not isinstance(processing, ProcessorMixin):
        raise UserError(
            "The dataset has images, and this model reads only text.",
            f"{label('base_model')} “{base_model}”",
            "Choose a model that reads images (they are marked in the list of models), or a "
            "dataset without an image column.",
        )


def check_truncation(has_images: bool, recipe: Recipe) -> None:
    """Raises UserError where images would be cut off: they stand at the start of a row."""
    if has_images and recipe.truncation_mode == "keep_end":
        raise UserError(
            "Rows with images can only be cut at their end.",
            label("truncation_mode"),
            f"Set {changed_to({'truncation_mode': 'keep_start'})}.",
        )


def check_shards(
    sharded: bool, processing: PreTrainedTokenizerBase | ProcessorMixin, base_model: str
) -> None:
    """Raises UserError for a vision model that would be sharded (FSDP).

    If only some processes have images in a batch, the others do not gather the vision tower.
    """
    if sharded and isinstance(processing, ProcessorMixin):
        raise UserError(
            "FSDP works with text models only, and this one reads images.",
            f"{label('distributed')}; {label('base_model')} “{base_model}”",
            f"Set {changed_to({'distributed': 'ddp'})}, or choose a model that reads only text.",
        )


def planned_saves(steps_left: int, save_steps: float) -> int:
    """How many checkpoints a run still writes; the last step always writes one."""
    return max(1, math.ceil(steps_left / max(1, save_steps)))


def checkpoint_bytes(model: torch.nn.Module, recipe: Recipe) -> int:
    """Bytes of one checkpoint: an adapter, or the whole model with its frozen weights, and more."""
    trainable = [one for one in model.parameters() if one.requires_grad]
    saved = list(model.parameters()) if recipe.adapter == "full" else trainable
    weights = sum(one.numel() * one.element_size() for one in saved)
    return weights + optimizer_bytes(sum(one.numel() for one in trainable), recipe) + EXTRA_BYTES


def check_disk(folder: Path, each: int, saves: int) -> None:
    """Raises UserError with both sizes if `saves` checkpoints of `each` bytes do not fit.

    Counts those that are kept and one being written; space of an earlier attempt is reused.
    """
    number = min(saves, KEPT + 1)
    needed = number * each + RESERVE_BYTES - size_of(folder)
    free = free_bytes(folder)
    if free < needed:
        raise UserError(
            "The disk has too little space for this run.",
            f"{in_words(needed)} needed ({number} checkpoints of {in_words(each)} and a reserve), "
            f"{in_words(free)} free in {folder}",
            "Delete old runs or exports, or choose another home folder with --home.",
            code="disk_small",
        )


def longest_rows(rows: Dataset, count: int) -> list[int]:
    """Indices of the `count` rows with the most tokens, the longest first."""
    lengths = pc.list_value_length(rows.with_format("arrow")["input_ids"]).to_numpy()
    return np.argsort(-lengths, kind="stable")[:count].tolist()


def check_tokens(rows: Dataset, vocabulary: int) -> None:
    """Raises UserError with both sizes if a token id is outside the model's embedding."""
    tokens = rows.with_format("arrow")["input_ids"]
    found = pc.min_max(pc.list_flatten(tokens)).as_py()
    if found["max"] is not None and (found["max"] >= vocabulary or found["min"] < 0):
        raise UserError(
            f"The tokenizer produced token {found['max']}; the model has only {vocabulary} tokens.",
            "Model and tokenizer",
            "Choose a model folder whose tokenizer belongs to it.",
            code="token_ids",
        )


def check_labels(batch: dict[str, Any], rows: list[int]) -> None:
    """Raises UserError with the first row's number if no label of the batch is learned."""
    labels = batch.get("labels")
    if labels is not None and not bool((labels != -100).any()):
        raise UserError(
            f"The {len(rows)} longest rows have nothing to learn: every token is context.",
            f"training row {rows[0] + 1} and others",
            f"Raise “{label('max_length')}”, or check which column is the answer.",
            code="labels_empty",
        )


@contextmanager
def peak_forgotten() -> Iterator[None]:
    """Count the peak memory of a GPU anew, before and after.

    So that a run shows the peak of its steps. On a CPU the whole process is counted: what it has
    once taken, the machine must have.
    """
    if not torch.cuda.is_available():
        yield
        return
    torch.cuda.reset_peak_memory_stats()
    yield
    torch.cuda.reset_peak_memory_stats()


@contextmanager
def restored(trainer: SFTTrainer) -> Iterator[None]:
    """Restore random states and the trainer's training metrics afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    meter = trainer._meters["train"]
    before = vars(meter).copy()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if on_gpu is not None:
            torch.cuda.set_rng_state_all(on_gpu)
        vars(meter).update(before)
