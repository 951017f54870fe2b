"""Batches as exact tensors: joined rows and padded rows."""

from trainer_backend.tokens.collator import SFTCollator

ROWS = [
    {"input_ids": [5, 6, 7], "labels": [-100, 6, 7]},
    {"input_ids": [8, 0], "labels": [8, 0]},
]


def test_joined_rows_restart_positions_and_mask_first_labels():
    batch = SFTCollator(0, padding_free=True)(ROWS)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7, -100, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert batch["seq_lengths"] == [3, 2]
    assert "attention_mask" not in batch


def test_packed_rows_keep_their_documents():
    row = {"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, 8], "seq_lengths": [1, 3]}
    batch = SFTCollator(0, padding_free=True)([row, ROWS[1]])
    assert batch["labels"].tolist() == [[-100, -100, 7, 8, -100, 0]]
    assert batch["position_ids"].tolist() == [[0, 0, 1, 2, 0, 1]]
    assert batch["seq_lengths"] == [1, 3, 2]


def test_padding_is_by_position_even_if_the_pad_token_is_a_label():
    batch = SFTCollator(0)(ROWS)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [8, 0, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_padding_to_a_multiple_and_labels_from_ids():
    batch = SFTCollator(9, pad_to_multiple_of=4)([{"input_ids": [1, 2]}])
    assert batch["input_ids"].tolist() == [[1, 2, 9, 9]]
    assert batch["labels"].tolist() == [[1, 2, -100, -100]]
