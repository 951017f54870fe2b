"""Bins and packed rows, exactly."""

import pytest

from trainer_backend.tokens.packing import best_fit_bins, pack_rows

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


def test_bfd_keeps_the_end_of_long_rows_when_asked():
    rows = [[1, 2, 3, 4, 5, 6], [7]]
    packed = pack_rows(rows, rows, 4, "bfd", truncation_mode="keep_end")
    assert packed["input_ids"] == packed["labels"] == [[3, 4, 5, 6], [7]]


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
