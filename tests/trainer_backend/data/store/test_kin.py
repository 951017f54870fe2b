"""Kin: exact and near repeats get one number, through any chain, and a split never parts them."""

import numpy as np
import pytest

from trainer_backend.data.store.split import joined, kin_of
from trainer_backend.data.store.uploads import create_from_rows


def test_pairs_join_their_digests_and_what_shares_them():
    digests = np.array([5, 7, 5, 9, 7, 11])
    found = joined(digests, np.array([[1], [0]]))  # example 1 nearly repeats example 0
    assert len({found[at] for at in (0, 1, 2, 4)}) == 1
    assert len({found[0], found[3], found[5]}) == 3
    assert joined(digests, np.empty((2, 0), np.int64)) is digests


@pytest.mark.parametrize("seed", range(200))
def test_kin_are_what_can_be_reached_and_no_other(seed):
    random = np.random.default_rng(seed)
    digests = random.integers(-3, 4, random.integers(1, 13))
    pairs = random.integers(0, len(digests), (random.integers(0, 9), 2))
    found = joined(digests, pairs.T)
    reached = np.equal.outer(digests, digests)
    for one, other in pairs:
        reached[one, other] = reached[other, one] = True
    for _ in digests:
        reached = (reached.astype(int) @ reached.astype(int)) > 0
    assert np.array_equal(np.equal.outer(found, found), reached)


@pytest.mark.parametrize("seed", range(5))
def test_near_repeats_are_on_one_side_of_a_split(tmp_path, seed):
    rows = []
    for at in range(40):
        text = " ".join(f"word{word}of{at}" for word in range(60))
        rows += [{"prompt": f"tell {at}", "response": f"{text} {end}."} for end in ("one", "two")]
    dataset = create_from_rows(tmp_path, rows, name="x")
    kin = kin_of(dataset.dir)
    train, held_out = dataset.split(0.25, seed)
    assert len(set(kin)) == 40 and kin[0] == kin[1] != kin[2]
    assert len(held_out) == 20 and not {kin[at] for at in train} & {kin[at] for at in held_out}
