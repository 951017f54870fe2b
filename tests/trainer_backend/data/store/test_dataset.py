"""A stored dataset: its hash, its sorted pages, its split, and migration of older formats."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer_backend.data.readers.options import ReadOptions
from trainer_backend.data.store import dataset as stored_dataset
from trainer_backend.data.store.dataset import list_datasets, open_dataset
from trainer_backend.data.store.fingerprint import hash_of_examples
from trainer_backend.data.store.uploads import create_dataset, create_from_rows
from trainer_backend.errors import UserError
from trainer_backend.home import read_json, write_json


@pytest.fixture
def put(tmp_path):
    def write(name: str, text: str, encoding: str = "utf-8"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        return tmp_path / name

    return write


def words(*counts: int) -> list[dict]:
    """Rows whose answers have so many words."""
    return [
        {"prompt": f"question {at}", "response": " ".join(["word"] * count)}
        for at, count in enumerate(counts, start=1)
    ]


def shown(dataset, **find) -> list[int]:
    return [row for row, _ in dataset.page(0, 100, **find)[0]]


def test_pages_are_sorted_by_length(home):
    rows = words(3, 9, 1, 9, 5)
    rows[2]["prompt"] = "a very long question indeed, longer than anything else that is asked here"
    dataset = create_from_rows(home, rows, name="x")
    assert shown(dataset) == [1, 2, 3, 4, 5]
    assert shown(dataset, sort="answer") == [2, 4, 5, 1, 3]
    assert shown(dataset, sort="longest") == [3, 2, 4, 5, 1]
    assert shown(dataset, sort="shortest") == [1, 5, 2, 4, 3]
    assert shown(dataset, sort="answer", rows_only=[1, 3, 4]) == [4, 1, 3]
    assert shown(dataset, sort="shortest", query="question 2") == [2]
    with pytest.raises(UserError, match="cannot be sorted"):
        dataset.page(0, sort="colour")


def test_a_row_is_found_where_the_page_shows_it(home):
    dataset = create_from_rows(home, words(3, 9, 1, 9, 5), name="x")
    for find in ({}, {"sort": "answer"}, {"query": "question"}, {"rows_only": [2, 5]}):
        order = shown(dataset, **find)
        assert [dataset.place_of(row, **find) for row in order] == list(range(len(order)))
    assert dataset.place_of(1, rows_only=[2, 5]) is None and dataset.place_of(6) is None


def test_all_rows_with_problems_are_one_filter(home):
    rows = words(*range(10, 40))
    rows[3]["response"] = ""
    rows[7]["response"] += " "
    rows[8]["response"] += " "
    dataset = create_from_rows(home, rows, name="x")
    assert dataset.rows_with_problems().tolist() == [4, 8, 9]
    assert dataset.rows_of_code("outer_space") == [8, 9] and dataset.rows_of_code("no") == []
    assert shown(dataset, rows_only=dataset.rows_with_problems()) == [4, 8, 9]


def test_the_hash_covers_what_trains(home, put):
    first = create_dataset(home, put("a.csv", "prompt,response,note\nq,a,1\nr,b,2\n"))
    second = create_dataset(home, put("b.csv", "response,prompt\na,q\nb,r\n"))
    third = create_dataset(home, put("c.csv", "prompt,response\nr,b\nq,a\n"))
    asked = create_dataset(home, put("a.csv", "prompt,response\nq,a\nr,b\n"), system_prompt="Hi.")
    assert first.hash == second.hash and len(first.hash) == 64
    assert len({first.hash, third.hash, asked.hash}) == 3
    assert len({first.id, second.id, third.id, asked.id}) == 4
    assert hash_of_examples(first.examples_path) == first.hash


def test_case_19_examples_that_changed_on_disk_are_refused(home):
    dataset = create_from_rows(home, words(4, 5, 6), name="mine")
    dataset.check_unchanged(dataset.hash)
    dataset.check_unchanged("")  # a run of an earlier version pinned none
    table = pq.read_table(dataset.examples_path)
    texts = [text.replace("question 2", "question 3") for text in table["messages"].to_pylist()]
    at = table.schema.get_field_index("messages")
    pq.write_table(table.set_column(at, "messages", pa.array(texts)), dataset.examples_path)
    with pytest.raises(UserError, match="The data changed: sha256") as caught:
        dataset.check_unchanged(dataset.hash)
    assert caught.value.code == "dataset_changed" and "new run" in caught.value.fix
    with pytest.raises(UserError, match="The data changed"):
        dataset.check_unchanged("0" * 64)


def test_an_id_covers_content_kind_options_and_prompt(home, put):
    path = put("a.csv", "prompt;response\ncaf\xe9;x\n", "latin-1")
    first = create_dataset(home, path, options=ReadOptions(encoding="latin-1"))
    second = create_dataset(home, path, options=ReadOptions(encoding="cp1251"))
    prompted = create_dataset(
        home, path, options=ReadOptions(encoding="latin-1"), system_prompt=" Hi. "
    )
    assert first.page(0)[0][0][1]["prompt"] == "café"
    assert len({first.id, second.id, prompted.id}) == 3 and prompted.system_prompt == "Hi."
    assert first.options == {"encoding": "latin-1"}
    text = "prompt\tresponse, or so\na\tb, c\n"
    one, two = create_dataset(home, put("b.tsv", text)), create_dataset(home, put("b.csv", text))
    assert one.columns != two.columns and one.id != two.id


@pytest.mark.parametrize("prompt", ["a\0b", "\ud83d"])
def test_a_system_prompt_that_cannot_train_is_refused(home, put, prompt):
    with pytest.raises(UserError) as caught:
        create_dataset(home, put("a.csv", "prompt,response\na,b\n"), system_prompt=prompt)
    assert caught.value.where == "the system prompt" and list_datasets(home) == []


def test_several_files_are_one_dataset_in_their_order(home, put):
    paths = [put("a.csv", "prompt,response\na,b\n"), put("b.csv", "prompt,response\nc,d\ne,f\n")]
    both = create_dataset(home, paths)
    assert both.num_rows == 3 and both.name == "a.csv and 1 more"
    assert [one["name"] for one in both.source["files"]] == ["a.csv", "b.csv"]
    assert create_dataset(home, paths).id == both.id
    assert create_dataset(home, paths[::-1]).id != both.id
    assert create_dataset(home, [paths[0]]) == create_dataset(home, paths[0])


def test_findings_are_reported_while_rows_are_read(home, put):
    rows = "".join(json.dumps(row) + "\n" for row in words(*[5] * 1_200))
    calls = []
    dataset = create_dataset(
        home, put("a.jsonl", rows), on_findings=lambda problems, first: calls.append(first)
    )
    assert len(calls) == 1 and len(calls[0]) == 500 < dataset.num_rows
    calls.clear()
    create_dataset(
        home,
        put("b.csv", "x,y\n1,2\n"),
        on_findings=lambda problems, first: calls.append((problems, first)),
    )
    (problems, first), *_ = calls
    assert problems[0].severity == "error" and first == [(1, {"x": "1", "y": "2"})]


def test_which_rows_are_held_out_is_stored(home, monkeypatch):
    dataset = create_from_rows(home, words(*range(1, 101)), name="x")
    train, held_out = dataset.split(0.1, 3)
    assert dataset.held_out_rows(0.1, 3) == [at + 1 for at in held_out] and len(held_out) == 16
    monkeypatch.setattr(
        stored_dataset, "split_indices", lambda *_: pytest.fail("it is stored already")
    )
    assert open_dataset(home, dataset.id).split(0.1, 3) == (train, held_out)


def older(dataset, tmp_path) -> None:
    """Turn a folder into the older format."""
    keep = ("meta.json", "rows.parquet", "examples.parquet", "problems.parquet")
    for path in dataset.dir.iterdir():
        if path.name not in keep:
            path.unlink()
    table = pq.read_table(dataset.examples_path).drop_columns("images")
    pq.write_table(table, dataset.examples_path)
    meta = read_json(dataset.dir / "meta.json")
    old = ("id", "name", "format", "sentence", "sure", "columns", "mapping", "num_rows")
    old += ("num_examples", "problems", "sample", "suggestion", "notes", "content", "num_bytes")
    kept = {key: meta[key] for key in (*old, "created_at") if key in meta}
    for problem in kept["problems"]:
        del problem["code"], problem["switches"]
    write_json(dataset.dir / "meta.json", kept)


def test_a_dataset_of_an_older_format_is_migrated(home, tmp_path):
    new = create_from_rows(home, [*words(3, 9, 1), {"prompt": "x", "response": ""}], name="x")
    held_out = new.split(0.5, 1)
    whole = tmp_path / "whole"
    shutil.copytree(new.dir, whole)
    older(new, tmp_path)
    opened = open_dataset(home, new.id)
    assert opened.hash == new.hash and opened.source == {
        "files": [{"name": "x", "bytes": new.num_bytes}]
    }
    assert shown(opened, sort="answer") == [2, 1, 3, 4] and opened.split(0.5, 1) == held_out
    assert opened.example(2) == new.example(2) and opened.version == 1
    for name in ("lengths.npy", "orders.npy"):
        assert np.load(opened.dir / name).shape == np.load(whole / name).shape
    assert list_datasets(home) == [opened]
