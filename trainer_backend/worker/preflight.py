"""Checks before the first step, so that a run that cannot work fails within a minute.

They need the loaded model or its tokenizer; what can be known from the settings is not here.
"""

import math
import random
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from transformers import ProcessorMixin, Trainer, TrainerCallback

from trainer_backend.disk import GIB, free_bytes, in_words, size_of
from trainer_backend.errors import UserError
from trainer_backend.recipe import Recipe, changed_to, label
from trainer_backend.runs import RunWriter
from trainer_backend.worker.memory import check_training_fits, optimizer_bytes

RESERVE_BYTES = GIB
KEPT = 3  # two newest and the best
EXTRA_BYTES = 8 * 2**20  # tokenizer, settings, curves


class Preflight(TrainerCallback):
    """Checks disk, tokens and labels, then goes once forward and backward on the longest batch.

    Nothing of it stays: random numbers, gradients, counters and weights are as before.
    """

    def __init__(self, trainer: Trainer, writer: RunWriter, recipe: Recipe):
        self.writer, self.recipe = writer, recipe
        self._trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        trainer = self._trainer
        if self.writer.enabled:
            saves = planned_saves(state.max_steps - state.global_step, state.save_steps)
            check_disk(Path(args.output_dir), checkpoint_bytes(trainer.model, self.recipe), saves)
        rows = trainer.train_dataset
        if not isinstance(rows, Dataset) or "input_ids" not in rows.column_names:
            return  # pictures and streams have no lengths beforehand
        longest = longest_rows(rows, args.per_device_train_batch_size)
        check_tokens(rows, trainer.model.get_input_embeddings().weight.shape[0])
        chosen = trainer._remove_unused_columns(rows.select(longest), "training")
        batch = trainer.data_collator(list(chosen))
        check_labels(batch, longest)
        if state.global_step == 0:  # a run that goes on has had its longest batch
            self._try(batch)

    def _try(self, batch: dict) -> None:
        trainer, tokens = self._trainer, batch["input_ids"].numel()
        what = f"Trying the longest batch ({tokens} tokens)"
        self.writer.progress(what, 0, 1, "step")
        with nothing_stays(trainer):
            trainer.training_step(trainer.model_wrapped, batch, num_items_in_batch=None)
            trainer.model.zero_grad()
        check_training_fits(trainer, self.recipe)
        self.writer.progress(what, 1, 1, "step")


def check_images(has_images: bool, processing, base_model: str) -> None:
    """Refuse rows with pictures for a model that reads only text. Raises UserError."""
    if has_images and not isinstance(processing, ProcessorMixin):
        raise UserError(
            "The dataset has images, and this model reads only text.",
            f"{label('base_model')} “{base_model}”",
            "Choose a model that reads images (they are marked in the list of models), or a "
            "dataset without an image column.",
        )


def check_shares(shared: bool, processing, base_model: str) -> None:
    """Refuse to share out (FSDP) a model that reads pictures. Raises UserError.

    Where one process has a picture and another none, only one would ask for the tower's shares.
    """
    if shared and isinstance(processing, ProcessorMixin):
        raise UserError(
            "FSDP shares out models of text only, and this one reads images.",
            f"{label('distributed')}; {label('base_model')} “{base_model}”",
            f"Set {changed_to({'distributed': 'ddp'})}, or choose a model that reads only text.",
        )


def planned_saves(steps_left: int, save_steps: float) -> int:
    """Checkpoints a run will still write; the last step always writes one."""
    return max(1, math.ceil(steps_left / max(1, save_steps)))


def checkpoint_bytes(model: torch.nn.Module, recipe: Recipe) -> int:
    """What one checkpoint takes on the disk."""
    learning = [one for one in model.parameters() if one.requires_grad]
    weights = sum(one.numel() * one.element_size() for one in learning)
    averages = optimizer_bytes(sum(one.numel() for one in learning), recipe)
    frozen = 0
    if recipe.adapter == "full":  # a whole model is saved, what is frozen too
        frozen = sum(
            one.numel() * one.element_size() for one in model.parameters() if not one.requires_grad
        )
    return weights + averages + frozen + EXTRA_BYTES


def check_disk(folder: Path, each: int, saves: int) -> None:
    """Refuse a run whose checkpoints do not fit. Raises UserError with the numbers.

    Beside those kept there is one being written; what an earlier attempt left is reused.
    """
    number = min(saves, KEPT + 1)
    needed = number * each + RESERVE_BYTES - size_of(folder)
    free = free_bytes(folder)
    if free < needed:
        raise UserError(
            "The disk has too little room for this run.",
            f"{in_words(needed)} needed ({number} checkpoints of {in_words(each)} and a reserve), "
            f"{in_words(free)} free in {folder}",
            "Delete old runs or exports, or choose another home folder with --home.",
            code="disk_small",
        )


def longest_rows(rows: Dataset, count: int) -> list[int]:
    """Numbers of the rows with most tokens, the longest first."""
    lengths = pc.list_value_length(rows.with_format("arrow")["input_ids"]).to_numpy()
    return np.argsort(-lengths, kind="stable")[:count].tolist()


def check_tokens(rows: Dataset, vocabulary: int) -> None:
    """Refuse token numbers the model has no weights for. Raises UserError with both sizes."""
    tokens = rows.with_format("arrow")["input_ids"]
    found = pc.min_max(pc.list_flatten(tokens)).as_py()
    if found["max"] is not None and (found["max"] >= vocabulary or found["min"] < 0):
        raise UserError(
            f"The tokenizer knows token {found['max']}, the model only {vocabulary} tokens.",
            "Model and tokenizer",
            "Choose a model folder whose tokenizer belongs to it.",
            code="token_ids",
        )


def check_labels(batch: dict, rows: list[int]) -> None:
    """Refuse a batch in which nothing is learned. Raises UserError with the first row's number."""
    labels = batch.get("labels")
    if labels is not None and not bool((labels != -100).any()):
        raise UserError(
            f"The {len(rows)} longest rows have nothing to learn: every token is context.",
            f"training row {rows[0] + 1} and others",
            f"Raise “{label('max_length')}”, or check which column is the answer.",
            code="labels_empty",
        )


@contextmanager
def nothing_stays(trainer: Trainer):
    """Put random numbers and the trainer's counters back to what they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    restore = _counters(trainer)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if on_gpu is not None:
            torch.cuda.set_rng_state_all(on_gpu)
        restore()


def _counters(trainer: Trainer) -> Callable[[], None]:
    meter = trainer._meters["train"]
    before = vars(meter).copy()
    return lambda: vars(meter).update(before)
