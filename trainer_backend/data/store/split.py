"""Decides which examples are held out, and finds rows that are on both sides.

A split is seeded and keeps each group of exact and near duplicates on one side. Only digests and
row numbers are known here, not what an example is.
"""

from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow.parquet as pq

from trainer_backend.data.checks import NEAR, Kind, problem_of, splitmix64
from trainer_backend.errors import Problem, UserError

MIN_HELD_OUT, MAX_HELD_OUT = 16, 1_000


class HeldOutFile(TypedDict):
    """A held-out file as chosen: the dataset, its name, and the number its first row gets."""

    dataset_id: str
    name: str
    row: int


class HeldOut(HeldOutFile):
    """A held-out file as stored in meta.json."""

    first: int  # index of the first held-out example
    count: int  # held-out examples
    overlap: int  # of them: also trained on
    near: int  # of the others: nearly the same as a training example


def num_held_out(num_examples: int, eval_fraction: float) -> int:
    """How many examples to hold out: the fraction, but at least 16 or a fifth, at most 1,000."""
    if eval_fraction <= 0:
        return 0
    least = min(MIN_HELD_OUT, num_examples // 5)
    wanted = max(round(num_examples * eval_fraction), least)
    return max(0, min(wanted, MAX_HELD_OUT, num_examples - 1))


def split_indices(
    groups: np.ndarray, eval_fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """(train, held out) as ascending indices into `groups`, int64 (examples,).

    Examples with equal values stay on one side. The order in which groups are held out depends on
    the values and the seed, not on the order of the examples.
    """
    everything = np.arange(len(groups))
    wanted = num_held_out(len(groups), eval_fraction)
    if wanted == 0:
        return everything.tolist(), []
    values, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    keys = values.astype(np.uint64) ^ np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
    held_groups = _take(np.argsort(splitmix64(keys), kind="stable"), sizes, wanted)
    held = np.isin(group, held_groups)
    return everything[~held].tolist(), everything[held].tolist()


def _take(order: np.ndarray, sizes: np.ndarray, wanted: int) -> np.ndarray:
    """The first groups that together have at most `wanted` examples; larger ones are skipped."""
    taken, count = [], 0
    for index in order:
        if count + sizes[index] <= wanted:
            taken.append(index)
            count += sizes[index]
        if count == wanted:
            break
    return np.array(taken, dtype=np.int64)


def duplicate_groups(folder: Path) -> np.ndarray:
    """int64 (examples,): one value for each group of exact and near duplicates of a dataset."""
    digests = pq.read_table(folder / "examples.parquet", columns=["digest"])["digest"].to_numpy()
    near = folder / NEAR
    return merge_groups(digests, np.load(near)) if near.is_file() else digests


def merge_groups(digests: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The digests, made equal for the two examples of each pair (int64 (2, n)), through any chain.

    Union-find over the digests that occur in a pair.
    """
    if not pairs.shape[1]:
        return digests
    values, group = np.unique(digests, return_inverse=True)
    linked, edges = np.unique(group[pairs], return_inverse=True)  # only these have a chain
    parent = list(range(len(linked)))

    def root(one: int) -> int:
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    laters, earliers = (one.tolist() for one in edges.reshape(2, -1))
    for later, earlier in zip(laters, earliers, strict=True):
        parent[root(later)] = root(earlier)
    roots = np.arange(len(values))
    roots[linked] = linked[[root(one) for one in range(len(linked))]]
    return values[roots][group]


def held_out_facts(
    about: HeldOutFile, rows: np.ndarray, digests: np.ndarray, near: np.ndarray
) -> tuple[HeldOut, np.ndarray]:
    """(counts for meta.json, numbers of the training rows that are also held out).

    `rows` and `digests` are those of all examples, ascending by row; `near` (2, n) are the indices
    of examples and of the earlier one that each nearly repeats. Raises UserError when one side has
    no example.
    """
    first = int(np.searchsorted(rows, about["row"]))
    if first == len(rows):
        what = "No row of the held-out file can be used."
        raise UserError(what, about["name"], "Correct the file or choose another one.")
    if first == 0:
        raise UserError("No row is left to train on.", about["name"], "Keep some training rows.")
    both = np.isin(digests[:first], digests[first:])
    again = np.isin(digests[first:], digests[:first])
    later, earlier = near[:, (near[0] >= first) & (near[1] < first)]
    both[earlier] = True
    facts: HeldOut = {
        **about,
        "first": first,
        "count": len(rows) - first,
        "overlap": int(again.sum()),
        "near": int((~again[later - first]).sum()),
    }
    return facts, rows[:first][both]


def overlap_problem(facts: HeldOut, rows: np.ndarray, name: str) -> Problem:
    """The warning that these training rows are also held out."""
    count, nearly = facts["overlap"] + facts["near"], facts["near"]
    but = f", {nearly:,} of them nearly word for word" if nearly else ""
    what = f"{count:,} of {facts['count']:,} held-out rows are also trained on{but}."
    fix = "The held-out loss is then too optimistic. Leave these training rows out."
    kind = Kind("held_out_overlap", "warning", what, fix, ("drop",))
    return problem_of(kind, rows, name, facts["first"] + facts["count"])[0]
