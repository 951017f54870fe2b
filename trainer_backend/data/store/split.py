"""Which examples are held out: seeded, clamped, and duplicates stay on one side.

It knows only digests and counts, not what an example is.
"""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from trainer_backend.data.checks import NEAR, splitmix64
from trainer_backend.errors import Problem, UserError

MIN_HELD_OUT, MAX_HELD_OUT = 16, 1_000


def num_held_out(num_examples: int, eval_fraction: float) -> int:
    """How many examples to hold out: the share, but 16 or a fifth at least and 1,000 at most."""
    if eval_fraction <= 0:
        return 0
    least = min(MIN_HELD_OUT, num_examples // 5)
    wanted = max(round(num_examples * eval_fraction), least)
    return max(0, min(wanted, MAX_HELD_OUT, num_examples - 1))


def split_indices(
    digests: np.ndarray, eval_fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """(train, held out) as ascending indices; examples of one digest are never parted."""
    everything = np.arange(len(digests))
    wanted = num_held_out(len(digests), eval_fraction)
    if wanted == 0:
        return everything.tolist(), []
    values, group, sizes = np.unique(digests, return_inverse=True, return_counts=True)
    keys = values.astype(np.uint64) ^ np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    order = np.argsort(splitmix64(keys), kind="stable")  # by content, not by row order
    held_groups = _take(order, sizes, wanted)
    held = np.isin(group, held_groups)
    return everything[~held].tolist(), everything[held].tolist()


def _take(order: np.ndarray, sizes: np.ndarray, wanted: int) -> np.ndarray:
    """Groups in order while they fit; those too large to fit are passed over."""
    taken, count = [], 0
    for index in order:
        if count + sizes[index] <= wanted:
            taken.append(index)
            count += sizes[index]
        if count == wanted:
            break
    return np.array(taken, dtype=np.int64)


def kin_of(folder: Path) -> np.ndarray:
    """int64: for each example of a stored dataset a number that its kin have, and they alone."""
    digests = pq.read_table(folder / "examples.parquet", columns=["digest"])["digest"].to_numpy()
    near = folder / NEAR
    return joined(digests, np.load(near)) if near.is_file() else digests


def joined(digests: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The digests, where the two of each pair (shape (2, n)) share one; so does what they share."""
    if not pairs.shape[1]:
        return digests
    values, group = np.unique(digests, return_inverse=True)
    above = list(range(len(values)))  # a group's parent, up to itself at the top

    def top(one: int) -> int:
        while above[one] != one:
            above[one] = above[above[one]]
            one = above[one]
        return one

    for later, earlier in group[pairs].T.tolist():
        above[top(later)] = top(earlier)
    return values[[top(one) for one in range(len(values))]][group]


def held_out_facts(
    about: dict, rows: np.ndarray, digests: np.ndarray, near: np.ndarray
) -> tuple[dict, np.ndarray]:
    """What is held out, counted (for meta.json), and the training rows that are held out too.

    `rows` and `digests` are those of all examples, ascending by row; `near` (2, n) are indices of
    examples and of the earlier one that each nearly repeats.
    """
    first = int(np.searchsorted(rows, about["row"]))
    if first == len(rows):
        raise UserError("No row of the held-out file can be used.", about["name"], "Correct it.")
    if first == 0:
        raise UserError("No row is left to train on.", about["name"], "Keep some training rows.")
    both = np.isin(digests[:first], digests[first:])
    again = np.isin(digests[first:], digests[:first])
    later, earlier = near[:, (near[0] >= first) & (near[1] < first)]
    nearly = int((~again[later - first]).sum())
    both[earlier] = True
    facts = {"first": first, "count": len(rows) - first, "overlap": int(again.sum())}
    return about | facts | {"near": nearly}, rows[:first][both]


def overlap_problem(facts: dict, rows: np.ndarray, name: str) -> Problem:
    """The warning that rows are both trained on and measured with."""
    first = tuple(int(row) for row in rows[:100])
    count, nearly = facts["overlap"] + facts["near"], facts["near"]
    but = f", {nearly:,} of them nearly word for word" if nearly else ""
    return Problem(
        "warning",
        f"{count:,} of {facts['count']:,} held-out rows are also trained on{but}.",
        f"{name}: training rows {', '.join(f'{row:,}' for row in first[:5])}"
        + (f" and {len(rows) - 5:,} more" if len(rows) > 5 else ""),
        "The held-out loss then says little. Leave these rows out of training.",
        first,
        len(rows),
        code="held_out_overlap",
        switches=("drop",),
    )
