"""Rows that accelerate repeats so that all processes get full batches: they must not count.

How processes are started is launch.py; the loss itself is loss.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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
    is_last = accelerator.num_processes > 1 and state.end_of_dataloader and state.remainder > 0
    if not is_last or "labels" not in batch:
        return batch
    labels = batch["labels"]
    rows = len(labels) if lengths is None else len(lengths)
    new = min(max(state.remainder - accelerator.process_index * rows, 0), rows)
    if lengths is None:
        labels[new:] = IGNORED
    else:
        labels[:, sum(lengths[:new]) :] = IGNORED
    return batch
