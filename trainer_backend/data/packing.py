"""Which examples go together: in one row (bins, splits, one long stream) or in one padded batch.

Isolation between the examples of a row is attention.py's work; tensors are collator.py's.
"""

from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from datasets import Dataset

STRATEGIES = ("bfd", "bfd_split", "wrapped")
_WINDOW = 50  # batches whose rows are sorted together: the rest of the order stays random


def best_fit_bins(lengths: list[int], max_length: int) -> list[list[int]]:
    """Put rows (none above max_length) into bins, longest first, each where least room is left."""
    bins: list[list[int]] = []
    waiting: dict[int, deque[int]] = defaultdict(
        deque
    )  # room left -> bins, first come first served
    rooms: list[int] = []  # sorted keys of `waiting`
    for row in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        at = bisect_left(rooms, lengths[row])
        if at == len(rooms):
            room, number = max_length, len(bins)
            bins.append([])
        else:
            room = rooms[at]
            number = waiting[room].popleft()
            if not waiting[room]:
                rooms.pop(at)
        bins[number].append(row)
        left = room - lengths[row]
        if left:
            if not waiting[left]:
                insort(rooms, left)
            waiting[left].append(number)
    return bins


def pack_rows(
    input_ids: list[list[int]], labels: list[list[int]], max_length: int, strategy: str
) -> dict[str, list]:
    """Pack rows; `seq_lengths` says where the examples of a packed row lie (not for `wrapped`)."""
    if strategy == "wrapped":
        ids, targets = list(chain.from_iterable(input_ids)), list(chain.from_iterable(labels))
        starts = range(0, len(ids), max_length)
        return {
            "input_ids": [ids[s : s + max_length] for s in starts],
            "labels": [targets[s : s + max_length] for s in starts],
        }
    if strategy == "bfd_split":
        input_ids, labels = (_split(rows, max_length) for rows in (input_ids, labels))
    else:
        input_ids, labels = ([row[:max_length] for row in rows] for rows in (input_ids, labels))
    bins = best_fit_bins([len(row) for row in input_ids], max_length)
    return {
        "input_ids": [list(chain.from_iterable(input_ids[i] for i in bin_)) for bin_ in bins],
        "labels": [list(chain.from_iterable(labels[i] for i in bin_)) for bin_ in bins],
        "seq_lengths": [[len(input_ids[i]) for i in bin_] for bin_ in bins],
    }


def _split(rows: list[list[int]], max_length: int) -> list[list[int]]:
    return [row[s : s + max_length] for row in rows for s in range(0, len(row), max_length)]


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
