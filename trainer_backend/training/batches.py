"""The rows of batches: similar lengths together where they are padded, repeated rows ignored.

accelerate repeats rows so that all processes get full batches; those must not be trained twice.
No tensor is collated here, and no loss computed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.data_loader import SkipBatchSampler
from accelerate.state import GradientState
from datasets import Dataset, IterableDataset
from torch.utils.data import Sampler

from trainer_backend.tokens.prepared.token_columns import row_lengths
from trainer_backend.tokens.tokenise import IGNORED

ROW_LENGTHS = "row_lengths"
TRAINED_AT = "trained_at"
_WINDOW = 50  # batches whose rows are sorted by length together; their order stays random


@dataclass
class WithRowLengths:
    """A collator that adds `row_lengths` (tokens of each row) to a batch of joined rows."""

    collate: Callable[..., dict[str, Any]]

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate; a padded batch is returned as it is."""
        batch = self.collate(rows)
        if "seq_lengths" in batch:
            batch[ROW_LENGTHS] = [len(row["input_ids"]) for row in rows]
        return batch


@dataclass
class WithTrainedPositions:
    """A collator that adds `trained_at` (int64 [trained]) to a batch with labels.

    Those are the places of the trained labels among all but the first of each row, flattened.
    Found here, on the CPU, they need no question to the device, which would wait for its work.
    """

    collate: Callable[..., dict[str, Any]]

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate; a batch without labels is returned as it is."""
        batch = self.collate(rows)
        labels = batch.get("labels")
        if labels is not None:
            trained = labels[..., 1:].reshape(-1).numpy() != IGNORED
            batch[TRAINED_AT] = torch.from_numpy(np.flatnonzero(trained))
        return batch


def with_length(dataset: Dataset | IterableDataset) -> Dataset:
    """Read a stream into a table: without a length, repeats in its last batch are not known."""
    return Dataset.from_list(list(dataset)) if isinstance(dataset, IterableDataset) else dataset


def ignore_repeats(batch: dict[str, Any], accelerator: Accelerator) -> dict[str, Any]:
    """Mask the labels of repeated rows in the last batch of an epoch, in place.

    Call it right after the data loader yields the batch. accelerate deals whole batches to the
    processes in turn and fills the last round with rows from the start of the epoch; its
    `remainder` is the number of new rows in that round, or 0 if all are new.
    """
    state = accelerator.gradient_state
    lengths = batch.pop(ROW_LENGTHS, None)
    is_last = accelerator.num_processes > 1 and state.end_of_dataloader
    remainder = _remainder(state) if is_last else 0
    if remainder <= 0 or "labels" not in batch:
        return batch
    batch.pop(TRAINED_AT, None)  # no longer true
    labels = batch["labels"]
    rows = len(labels) if lengths is None else len(lengths)
    new = min(max(remainder - accelerator.process_index * rows, 0), rows)
    if lengths is None:
        labels[new:] = IGNORED
    else:
        labels[:, sum(lengths[:new]) :] = IGNORED
    return batch


def _remainder(state: GradientState) -> int:
    """New rows of the last round; computed here when an epoch was resumed midway.

    accelerate's SkipBatchSampler hides the size of a round, and `remainder` is -1 then.
    """
    loader = getattr(state, "active_dataloader", None)
    skipping = getattr(loader, "batch_sampler", None)
    if state.remainder >= 0 or loader is None or not isinstance(skipping, SkipBatchSampler):
        return state.remainder
    dealt = skipping.batch_sampler  # deals batches to the processes
    return -1 if dealt.drop_last else len(loader.dataset) % (dealt.batch_size * dealt.num_processes)


@dataclass
class LengthGroupedOrder(Sampler[int]):
    """A sampler: rows in random order, but each batch has rows of similar length.

    Rows are shuffled, sorted by length in windows of 50 batches, and the batches of a window are
    shuffled again (transformers' own sampler leaves them from long to short). The order depends on
    seed and epoch alone: the same on every process and after a resume.
    """

    lengths: Sequence[int] | np.ndarray  # tokens of each row
    batch_size: int
    seed: int
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration draws."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self.seed, self.epoch))
        lengths, size = np.asarray(self.lengths), self.batch_size
        order = random.permutation(len(lengths))
        full = len(order) - len(order) % size  # the rest makes the last, smaller batch
        for start in range(0, full, size * _WINDOW):
            rows = order[start : min(start + size * _WINDOW, full)]
            batches = rows[np.argsort(-lengths[rows], kind="stable")].reshape(-1, size)
            yield from random.permutation(batches).ravel().tolist()
        yield from order[full:].tolist()


def group_by_length(dataset: object, batch_size: int, seed: int) -> LengthGroupedOrder | None:
    """The sampler for padded batches of a tokenised table; None for any other dataset."""
    if not isinstance(dataset, Dataset) or "input_ids" not in dataset.column_names:
        return None
    return LengthGroupedOrder(row_lengths(dataset), batch_size, seed)
