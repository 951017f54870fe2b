"""Packing: which examples share one row of `max_length` tokens, and how long a filled row is.

Plain lists of integers: no tensors, no datasets, nothing about attention.
"""

from bisect import bisect_left, insort
from collections import defaultdict, deque
from itertools import chain

STRATEGIES = ("bfd", "bfd_split", "wrapped")
SHORTEST = 8  # tokens: the length of every filled row is a multiple of it
LENGTHS = 16  # of filled rows, from a power of two to the next


def filled_length(tokens: int) -> int:
    """The shortest of the fixed lengths that holds `tokens`: at most 1/16 longer from 128 on.

    From one power of two to the next there are 16 lengths, evenly spaced.
    """
    step = max(SHORTEST, (1 << tokens.bit_length() - 1) // LENGTHS) if tokens else SHORTEST
    return tokens + -tokens % step


def best_fit_bins(lengths: list[int], max_length: int) -> list[list[int]]:
    """Best-fit decreasing bin packing: rows longest first, each where the least room is left.

    `lengths` are tokens per row, none above `max_length`; returns the row indices of each bin, in
    O(n log n). From "Fewer Truncations Improve Language Modeling" (arXiv 2404.10830).

        best_fit_bins([3, 5, 2, 4], 8)  # [[1, 0], [3, 2]]
    """
    bins: list[list[int]] = []
    waiting: dict[int, deque[int]] = defaultdict(deque)  # room left -> bins, first in first out
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
    input_ids: list[list[int]],
    labels: list[list[int]],
    max_length: int,
    strategy: str,
    truncation_mode: str = "keep_start",
) -> dict[str, list]:
    """Pack token ids and labels (same shapes) into rows of at most `max_length` tokens.

    `seq_lengths` holds the lengths of the examples in each packed row. For
    `input_ids=[[1, 2, 3], [4, 5, 6, 7, 8], [9]]` and `max_length=4`:

        bfd        input_ids [[4, 5, 6, 7], [1, 2, 3, 9]]    seq_lengths [[4], [3, 1]]
        bfd_split  input_ids [[4, 5, 6, 7], [1, 2, 3, 8], [9]]  seq_lengths [[4], [3, 1], [1]]
        wrapped    input_ids [[1, 2, 3, 4], [5, 6, 7, 8], [9]]

    bfd truncates long rows (at their start with `truncation_mode` "keep_end"); bfd_split cuts them
    into pieces; wrapped cuts the concatenation of all rows and has no `seq_lengths`: attention
    crosses its examples.
    """
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
        kept = slice(-max_length, None) if truncation_mode == "keep_end" else slice(max_length)
        input_ids, labels = ([row[kept] for row in rows] for rows in (input_ids, labels))
    bins = best_fit_bins([len(row) for row in input_ids], max_length)
    return {
        "input_ids": [list(chain.from_iterable(input_ids[i] for i in bin_)) for bin_ in bins],
        "labels": [list(chain.from_iterable(labels[i] for i in bin_)) for bin_ in bins],
        "seq_lengths": [[len(input_ids[i]) for i in bin_] for bin_ in bins],
    }


def _split(rows: list[list[int]], max_length: int) -> list[list[int]]:
    return [row[s : s + max_length] for row in rows for s in range(0, len(row), max_length)]
