"""Rows for the trainer: the same in memory and in a file, where the first process tokenises."""

from types import SimpleNamespace

import pytest

from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.tokens import prepare, training_rows
from trainer_backend.tokens.encode import EncodeOptions
from trainer_backend.tokens.prepare import Preparation, prepare_dataset
from trainer_backend.tokens.training_rows import training_dataset

CHATS = [{"prompt": f"Say {n}", "response": f"{n}! " * (1 + n % 5)} for n in range(40)]
TEXTS = [{"text": f"A line about {n}."} for n in range(40)]


@pytest.fixture
def on_disk(monkeypatch):
    monkeypatch.setattr(training_rows, "ON_DISK", 0)


@pytest.mark.parametrize(("rows", "prompt"), [(CHATS, ""), (CHATS, "Be brief."), (TEXTS, "")])
def test_rows_in_a_file_are_those_in_memory(tmp_path, on_disk, rows, prompt):
    stored = create_from_rows(tmp_path, rows, name="rows")
    held = training_dataset(stored, prompt)
    filed = training_dataset(stored, prompt, tmp_path / "rows")
    assert filed.cache_files and not held.cache_files
    assert filed[:] == held[:] and filed.column_names == held.column_names
    assert not prompt or "Be brief." in filed[0]["messages"]


def test_a_small_dataset_and_a_full_disk_leave_no_file(tmp_path, monkeypatch):
    stored = create_from_rows(tmp_path, CHATS, name="rows")
    assert not training_dataset(stored, "", tmp_path / "rows").cache_files
    monkeypatch.setattr(training_rows, "ON_DISK", 0)
    monkeypatch.setattr(training_rows, "free_bytes", lambda _: 1)
    assert not training_dataset(stored, "", tmp_path / "rows").cache_files
    assert not (tmp_path / "rows").exists()


@pytest.mark.parametrize("packing", [None, "bfd"])
def test_another_process_finds_the_tokens_of_the_first(
    tmp_path, on_disk, monkeypatch, tokenizer, packing
):
    stored = create_from_rows(tmp_path, CHATS, name="rows")
    batches = SimpleNamespace(count=0)
    encode = prepare._encode_table

    def counting(*given, **more):
        batches.count += 1
        return encode(*given, **more)

    monkeypatch.setattr(prepare, "_encode_table", counting)
    plan = Preparation(
        tokenizer,
        EncodeOptions(max_length=None if packing else 64, assistant_only_loss=True),
        packing=packing,
        pack_length=64,
        shuffle_seed=3,
    )

    def prepared(*folder):
        rows = training_dataset(stored, "", *folder).select([*range(5, 40), 1])
        return prepare_dataset(rows, plan)[0]

    held = prepared()
    assert batches.count == 1
    first, second = prepared(tmp_path / "rows"), prepared(tmp_path / "rows")
    assert batches.count == 2 and second.cache_files
    assert held[:] == first[:] == second[:]
