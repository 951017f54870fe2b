"""Bins and packed rows, exactly; padded batches of similar length."""

import pytest
from datasets import Dataset

from trainer_backend.data.packing import (
    LengthGroupedOrder,
    best_fit_bins,
    group_by_length,
    pack_rows,
)

ROWS = [[1, 1, 1], [2, 2, 2, 2, 2, 2], [3, 3], [4], [5, 5, 5]]


def test_each_row_goes_where_least_room_is_left():
    assert best_fit_bins([3, 5, 2, 1, 3], 5) == [[1], [0, 2], [4, 3]]
    assert best_fit_bins([], 5) == []
    assert best_fit_bins([5, 5], 5) == [[0], [1]]


def test_bins_hold_every_row_once_and_never_overflow():
    lengths = [(i * 37) % 97 + 1 for i in range(500)]
    bins = best_fit_bins(lengths, 100)
    assert sorted(row for bin_ in bins for row in bin_) == list(range(500))
    assert max(sum(lengths[row] for row in bin_) for bin_ in bins) <= 100
    assert len(bins) <= sum(lengths) / 100 * 1.03 + 1


def test_bfd_cuts_long_rows():
    packed = pack_rows(ROWS, ROWS, 5, "bfd")
    assert packed["input_ids"] == [[2, 2, 2, 2, 2], [1, 1, 1, 3, 3], [5, 5, 5, 4]]
    assert packed["seq_lengths"] == [[5], [3, 2], [3, 1]]
    assert packed["labels"] == packed["input_ids"]


def test_bfd_split_keeps_every_token():
    packed = pack_rows(ROWS, ROWS, 5, "bfd_split")
    assert packed["input_ids"] == [[2, 2, 2, 2, 2], [1, 1, 1, 3, 3], [5, 5, 5, 2, 4]]
    assert packed["seq_lengths"] == [[5], [3, 2], [3, 1, 1]]


def test_wrapped_is_one_stream():
    labels = [[-row[0] for _ in row] for row in ROWS]
    packed = pack_rows(ROWS, labels, 4, "wrapped")
    assert packed["input_ids"] == [[1, 1, 1, 2], [2, 2, 2, 2], [2, 3, 3, 4], [5, 5, 5]]
    assert packed["labels"][0] == [-1, -1, -1, -2]
    assert "seq_lengths" not in packed


@pytest.mark.parametrize("strategy", ["bfd", "bfd_split"])
def test_labels_travel_with_their_rows(strategy):
    labels = [[-100, *row[1:]] for row in ROWS]
    packed = pack_rows(ROWS, labels, 6, strategy)
    for ids, targets, lengths in zip(*packed.values(), strict=True):
        start = 0
        for length in lengths:
            assert targets[start] == -100
            assert targets[start + 1 : start + length] == ids[start + 1 : start + length]
            start += length


LENGTHS = [7 * at % 97 + 1 for at in range(203)]


def batches_of(order, size: int) -> list[list[int]]:
    rows = list(order)
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def test_batches_of_similar_length_take_every_row_once():
    order = LengthGroupedOrder(LENGTHS, 8, seed=1)
    assert sorted(order) == list(range(len(LENGTHS))) and len(order) == len(LENGTHS)
    batches = batches_of(order, 8)
    assert [len(batch) for batch in batches] == [8] * 25 + [3]
    padded = sum(8 * max(LENGTHS[row] for row in batch) for batch in batches[:-1])
    real = sum(LENGTHS[row] for batch in batches[:-1] for row in batch)
    assert padded < 1.1 * real
    longest = [max(LENGTHS[row] for row in batch) for batch in batches]
    assert longest != sorted(longest, reverse=True), "batches themselves come in random order"


def test_the_order_is_that_of_its_seed_and_epoch():
    first, second = (LengthGroupedOrder(LENGTHS, 8, seed=1) for _ in range(2))
    assert list(first) == list(first) == list(second)
    second.set_epoch(1)
    assert list(first) != list(second)
    assert list(first) != list(LengthGroupedOrder(LENGTHS, 8, seed=2))


def test_rows_of_a_shuffled_table_are_measured_where_they_are():
    table = Dataset.from_dict({"input_ids": [[0] * n for n in LENGTHS], "other": LENGTHS})
    shuffled = table.shuffle(seed=3)
    assert list(group_by_length(shuffled, 8, 1).lengths) == shuffled["other"][:]
    assert group_by_length(table.remove_columns("input_ids"), 8, 1) is None
    assert group_by_length(table.to_iterable_dataset(), 8, 1) is None
