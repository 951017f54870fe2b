"""The packed sequence of a row."""

import numpy as np
import pytest

from sft_ui.data.rows.tokens import pack_strip, packed_with
from trainer_backend.data.store.length_report import NOT_LEARNED, LengthReport


@pytest.fixture
def lengths():
    total = np.array([60, 40, 300, 0, 90, 20], np.int32)
    first = np.array([10, 10, 120, NOT_LEARNED, NOT_LEARNED, 5], np.int32)
    trained = np.array([50, 30, 180, 0, 0, 15], np.int32)
    rows = np.array([1, 2, 4, 5, 7, 9], np.int64)
    return LengthReport(rows, total, first, first + trained, trained, failures=[(5, "refused")])


def test_rows_are_packed_as_training_packs_them(lengths):
    assert packed_with(lengths, 1, 100).rows == [(1, 60), (2, 40)]


def test_a_row_is_in_the_sequence_it_is_shown_in(lengths):
    for row in (1, 2, 9):
        packed = packed_with(lengths, row, 128)
        assert row in dict(packed.rows) and sum(n for _, n in packed.rows) <= 128


@pytest.mark.parametrize("row", [5, 7, 3, 100])
def test_a_row_that_is_not_trained_on_is_not_packed(lengths, row):
    assert packed_with(lengths, row, 128) is None


def test_a_row_whose_answer_is_cut_off_is_not_packed(lengths):
    assert packed_with(lengths, 4, 100) is None and packed_with(lengths, 4, 400) is not None


def test_the_strip_names_rows_and_what_stays_empty(lengths):
    html = pack_strip(packed_with(lengths, 1, 110), 1)
    assert "Row 2: 40 tokens" in html and "1 other row" in html and "10 stay empty" in html
    assert html.count('class="here"') == 1
