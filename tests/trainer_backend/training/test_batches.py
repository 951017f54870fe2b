"""Repeated rows of a last round lose their labels; padded batches hold rows of similar length."""

from types import SimpleNamespace

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
from datasets import Dataset
from torch.utils.data import BatchSampler

from trainer_backend.tokens.collator import SFTCollator
from trainer_backend.training.batches import (
    LengthGroupedOrder,
    WithRowLengths,
    group_by_length,
    ignore_repeats,
    with_length,
)

ROWS = [{"input_ids": [5] * n, "labels": [5] * n} for n in (3, 2, 4)]


def processes(index: int, remainder: int, number: int = 2, last: bool = True):
    state = SimpleNamespace(end_of_dataloader=last, remainder=remainder)
    return SimpleNamespace(num_processes=number, process_index=index, gradient_state=state)


def rows_with_labels(batch) -> list[bool]:
    lengths = batch.get("seq_lengths")
    rows = batch["labels"][0].split(lengths) if lengths else batch["labels"]
    return [bool((row != -100).any()) for row in rows]


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize(
    ("index", "remainder", "kept"),
    [(0, 4, 3), (1, 4, 1), (0, 2, 2), (1, 2, 0), (1, 0, 3), (0, -1, 3)],
)
def test_only_the_new_rows_of_the_last_round_count(joined, index, remainder, kept):
    batch = WithRowLengths(SFTCollator(0, joined))(ROWS)
    batch = ignore_repeats(batch, processes(index, remainder))
    assert rows_with_labels(batch) == [True] * kept + [False] * (3 - kept)
    assert "row_lengths" not in batch


@pytest.mark.parametrize(("drop_last", "kept"), [(False, 1), (True, 3)])
def test_a_pass_that_is_resumed_midway_knows_its_last_round_too(drop_last, kept):
    """Ten rows in rounds of two times three: the last round has four new ones."""
    dealt = BatchSamplerShard(BatchSampler(range(10), 3, drop_last), 2, 1)
    resumed = processes(1, -1)
    resumed.gradient_state.active_dataloader = SimpleNamespace(
        batch_sampler=SkipBatchSampler(dealt, 1), dataset=range(10)
    )
    batch = ignore_repeats(WithRowLengths(SFTCollator(0, True))(ROWS), resumed)
    assert rows_with_labels(batch) == [True] * kept + [False] * (3 - kept)


def test_packed_rows_are_cut_off_as_rows_not_as_documents():
    rows = [{"input_ids": [5] * 6, "labels": [5] * 6, "seq_lengths": [2, 4]} for _ in range(2)]
    batch = ignore_repeats(WithRowLengths(SFTCollator(0, True))(rows), processes(1, 3))
    assert rows_with_labels(batch) == [True, True, False, False]


@pytest.mark.parametrize("accelerator", [processes(0, 1, number=1), processes(0, 1, last=False)])
def test_other_batches_stay_as_they_are(accelerator):
    batch = WithRowLengths(SFTCollator(0, True))(ROWS)
    assert rows_with_labels(ignore_repeats(batch, accelerator)) == [True] * 3


def test_a_batch_without_labels_is_left_alone():
    batch = {"input_ids": torch.ones(2, 2), "row_lengths": [1, 1]}
    assert list(ignore_repeats(batch, processes(1, 1))) == ["input_ids"]


def test_a_stream_gets_a_length_and_a_table_stays():
    table = Dataset.from_list(ROWS)
    assert len(with_length(table.to_iterable_dataset())) == 3
    assert with_length(table) is table


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
