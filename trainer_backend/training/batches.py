"""Rows in batches: alike in length where they are padded, and counted once where they repeat.

accelerate repeats rows so that all processes get full batches: those must not count. No process is
started here, and no loss computed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from accelerate.data_loader import SkipBatchSampler
from datasets import Dataset, IterableDataset

from trainer_backend.tokens.tokenise import IGNORED

ROW_LENGTHS = "row_lengths"
_WINDOW = 50  # batches whose rows are sorted together: the rest of the order stays random


@dataclass
class WithRowLengths:
    """A collator that says how many tokens each row brings to a joined batch: it has no mark."""

    collate: Callable

    def __call__(self, rows: Sequence[Mapping]) -> dict:
        """Collate, with one more entry when rows were joined."""
        batch = self.collate(rows)
        if "seq_lengths" in batch:
            batch[ROW_LENGTHS] = [len(row["input_ids"]) for row in rows]
        return batch


def with_length(dataset):
    """A stream as a table: of a stream nobody knows how many rows its last batch repeats."""
    return Dataset.from_list(list(dataset)) if isinstance(dataset, IterableDataset) else dataset


def ignore_repeats(batch: dict, accelerator) -> dict:
    """Take the labels off the repeated rows of a pass's last batch.

    Call it when the data loader has just given the batch. accelerate deals whole batches to the
    processes in turn and fills the last round up with rows from the beginning of the pass; its
    `remainder` is the number of rows of that round which are new, or 0 if all are.
    """
    state = accelerator.gradient_state
    lengths = batch.pop(ROW_LENGTHS, None)
    is_last = accelerator.num_processes > 1 and state.end_of_dataloader
    remainder = _remainder(state) if is_last else 0
    if remainder <= 0 or "labels" not in batch:
        return batch
    labels = batch["labels"]
    rows = len(labels) if lengths is None else len(lengths)
    new = min(max(remainder - accelerator.process_index * rows, 0), rows)
    if lengths is None:
        labels[new:] = IGNORED
    else:
        labels[:, sum(lengths[:new]) :] = IGNORED
    return batch


def _remainder(state) -> int:
    """New rows of a last round; accelerate loses count of them where a resumed pass begins midway.

    The sampler it then puts in front, which skips batches, does not say how large a round is.
    """
    loader = getattr(state, "active_dataloader", None)
    skipping = getattr(loader, "batch_sampler", None)
    if state.remainder >= 0 or not isinstance(skipping, SkipBatchSampler):
        return state.remainder
    dealt = skipping.batch_sampler  # what deals batches to the processes
    return -1 if dealt.drop_last else len(loader.dataset) % (dealt.batch_size * dealt.num_processes)


@dataclass
class LengthGroupedOrder:
    """A sampler: rows in random order, but each batch has rows of similar length.

    Rows are shuffled, sorted by length in windows of some batches, and the batches of a window
    are shuffled again (transformers' own sampler leaves them from long to short). The order
    depends on seed and epoch alone, so that every process and a resumed run finds the same.
    """

    lengths: Sequence[int]
    batch_size: int
    seed: int
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Choose the pass over the data that is drawn next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self.seed, self.epoch))
        lengths, size = np.asarray(self.lengths), self.batch_size
        order = random.permutation(len(lengths))
        full = len(order) - len(order) % size  # what is left over makes the last, smaller batch
        for start in range(0, full, size * _WINDOW):
            rows = order[start : min(start + size * _WINDOW, full)]
            batches = rows[np.argsort(-lengths[rows], kind="stable")].reshape(-1, size)
            yield from random.permutation(batches).ravel().tolist()
        yield from order[full:].tolist()


def group_by_length(dataset, batch_size: int, seed: int) -> LengthGroupedOrder | None:
    """The order of a tokenised table for padded batches; None where lengths are not known."""
    if not isinstance(dataset, Dataset) or "input_ids" not in dataset.column_names:
        return None
    rows = dataset.select_columns(["input_ids"]).with_format("arrow")[:]["input_ids"]
    return LengthGroupedOrder(rows.combine_chunks().value_lengths().to_numpy(), batch_size, seed)
