"""Which examples share one row: best-fit bins, long rows split, or one long stream cut up.

Only lists of numbers here: no tensors, no datasets, and no attention between the examples.
"""

from bisect import bisect_left, insort
from collections import defaultdict, deque
from itertools import chain

STRATEGIES = ("bfd", "bfd_split", "wrapped")


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
