"""Questions about all tokens: the same answers some rows at a time as all at once."""

import numpy as np
import pytest
from datasets import Dataset

from trainer_backend.tokens.prepared import token_columns
from trainer_backend.tokens.prepared.token_columns import (
    check_vocabulary,
    endless_at,
    row_lengths,
    teaching_at,
)
from trainer_backend.tokens.refusals import RowsRefused

IGNORED = -100
LABELS = [[1, 5], [IGNORED, IGNORED], [3], [IGNORED, 7, 9], [], [2, IGNORED], [IGNORED, 9]]
IDS = [[1, 5], [2, 3], [3], [6, 7, 9], [], [2, 8], [4, 9]]


@pytest.fixture(params=[1, 2, 3, 100])
def rows(request, monkeypatch):
    monkeypatch.setattr(token_columns, "ROWS_AT_ONCE", request.param)
    return Dataset.from_dict({"input_ids": IDS, "labels": LABELS})


def test_rows_that_teach(rows):
    assert teaching_at(rows).tolist() == [True, False, False, True, False, False, True]
    assert teaching_at(rows.select([])).tolist() == []


def test_rows_that_teach_no_end(rows):
    lengths = np.array([2, 2, 1, 3, 0, 2, 9])
    stops = frozenset({9})
    assert endless_at(rows, lengths, None, stops).tolist() == [
        *(True, False, True, False, False, True, False)
    ]
    assert not endless_at(rows, lengths, 0, stops).any()


def test_a_token_that_does_not_exist_is_named_with_its_row(rows):
    check_vocabulary(rows, 10, "train")
    check_vocabulary(rows, None, "train")
    with pytest.raises(RowsRefused) as caught:
        check_vocabulary(rows, 9, "train")
    assert "train dataset, row 4" in str(caught.value) and "Token 9 " in str(caught.value)


def test_lengths_follow_the_order_of_shuffled_and_chosen_rows(rows):
    for one in (rows, rows.shuffle(seed=2), rows.select([6, 3, 3]), rows.select(range(2, 6))):
        assert row_lengths(one).tolist() == [len(row["input_ids"]) for row in one]


def test_lengths_of_shuffled_rows_read_no_tokens(rows, monkeypatch):
    shuffled = rows.shuffle(seed=2)
    monkeypatch.setattr(Dataset, "__getitem__", None)
    assert row_lengths(shuffled).sum() == 12
