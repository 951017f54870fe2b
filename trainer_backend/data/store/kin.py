"""Which examples belong together: the same ones, and those that nearly repeat each other.

Finding near repeats is near_duplicates.py; a split never parts kin (split.py).
"""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from trainer_backend.data.checks.near_duplicates import NEAR


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
