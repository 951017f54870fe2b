"""Rows that accelerate repeats so that all processes get full batches: they must not count.

How processes are started is launch.py; the loss itself is loss.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from accelerate.data_loader import SkipBatchSampler
from datasets import Dataset, IterableDataset

from trainer_backend.data.chat_template import IGNORED

ROW_LENGTHS = "row_lengths"


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
