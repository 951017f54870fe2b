"""Exact and near duplicates form one group, through any chain, and a split keeps it together."""

import numpy as np
import pytest

from trainer_backend.data.store.split import duplicate_groups, merge_groups
from trainer_backend.data.store.uploads import create_from_rows


def test_a_pair_merges_all_examples_with_the_two_digests():
    digests = np.array([5, 7, 5, 9, 7, 11])
    found = merge_groups(digests, np.array([[1], [0]]))  # example 1 nearly repeats example 0
    assert len({found[at] for at in (0, 1, 2, 4)}) == 1
    assert len({found[0], found[3], found[5]}) == 3
    assert merge_groups(digests, np.empty((2, 0), np.int64)) is digests


@pytest.mark.parametrize("seed", range(200))
def test_groups_are_the_connected_components(seed):
    random = np.random.default_rng(seed)
    digests = random.integers(-3, 4, random.integers(1, 13))
    pairs = random.integers(0, len(digests), (random.integers(0, 9), 2))
    found = merge_groups(digests, pairs.T)
    reached = np.equal.outer(digests, digests)
    for one, other in pairs:
        reached[one, other] = reached[other, one] = True
    for _ in digests:
        reached = (reached.astype(int) @ reached.astype(int)) > 0
    assert np.array_equal(np.equal.outer(found, found), reached)


@pytest.mark.parametrize("seed", range(5))
def test_near_duplicates_are_on_one_side_of_a_split(tmp_path, seed):
    rows = []
    for at in range(40):
        text = " ".join(f"word{word}of{at}" for word in range(60))
        rows += [{"prompt": f"tell {at}", "response": f"{text} {end}."} for end in ("one", "two")]
    dataset = create_from_rows(tmp_path, rows, name="x")
    group = duplicate_groups(dataset.dir)
    train, held_out = dataset.split(0.25, seed)
    assert len(set(group)) == 40 and group[0] == group[1] != group[2]
    assert len(held_out) == 20 and not {group[at] for at in train} & {group[at] for at in held_out}
