"""Which examples are held out: seeded, clamped, and duplicates stay on one side.

It knows only digests and counts, not what an example is.
"""

import numpy as np

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
    order = np.argsort(_mixed(values, seed), kind="stable")
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


def _mixed(values: np.ndarray, seed: int) -> np.ndarray:
    """SplitMix64 over digest and seed: an order that depends on content, not on row order."""
    with np.errstate(over="ignore"):
        z = values.astype(np.uint64) ^ np.uint64((seed * 0x9E3779B97F4A7C15) % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
