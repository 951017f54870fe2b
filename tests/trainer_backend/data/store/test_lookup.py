"""Creating and finding datasets: exact cells, one dataset per content, nothing half-made left."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

from trainer_backend.data.formats.mapping import ColumnMapping
from trainer_backend.data.json_values import NumberText
from trainer_backend.data.store import dataset as stored_dataset
from trainer_backend.data.store import writer
from trainer_backend.data.store.build import label
from trainer_backend.data.store.dataset import list_datasets, open_dataset
from trainer_backend.data.store.held_out import with_held_out
from trainer_backend.data.store.lookup import resolve_data
from trainer_backend.data.store.split import num_held_out, split_indices
from trainer_backend.data.store.uploads import create_dataset, create_from_rows, remap_dataset
from trainer_backend.errors import UserError
from trainer_backend.runs.dataset_use import delete_dataset


@pytest.fixture
def put(tmp_path):
    def write(name: str, rows: list[dict] | str) -> Path:
        text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def pairs(count: int) -> list[dict]:
    return [{"prompt": f"question {at}", "response": f"answer {at}"} for at in range(1, count + 1)]


def folders(home: Path) -> list[str]:
    return sorted(os.listdir(home / "datasets")) if (home / "datasets").is_dir() else []


def test_cells_and_examples_come_back_exactly(home, put):
    tricky = [
        "NA",
        "007",
        "2020-01-01",
        "a\nb",
        "🎉",
        "  x ",
        "1.10",
        '"',
        "<script>alert(1)</script>",
    ]
    rows = [{"prompt": text, "response": text} for text in tricky]
    dataset = create_dataset(home, put("a.jsonl", rows))
    page, total = dataset.page(0)
    assert total == len(rows) and page == list(enumerate(rows, start=1))
    for number, text in enumerate(tricky, start=1):
        turns = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
        assert dataset.example(number).messages == turns
    assert [example.row for example in dataset.examples()] == list(range(1, len(rows) + 1))
    again = open_dataset(home, dataset.id)
    assert again == dataset and again.num_bytes > 0 and len(again.content) == 64


def test_same_content_is_one_dataset(home, put):
    first = create_dataset(home, put("a.jsonl", pairs(30)))
    second = create_dataset(home, put("b.jsonl", pairs(30)))
    assert first == second and folders(home) == [first.id] and first.name == "a.jsonl"
    other = create_dataset(home, put("a.jsonl", pairs(31)))
    assert other.id != first.id
    assert {one.id for one in list_datasets(home)} == {first.id, other.id}


def test_twenty_uploads_at_once_are_one(home, put):
    path = put("a.jsonl", pairs(300))
    ids, threads = [], []
    for _ in range(20):
        threads.append(threading.Thread(target=lambda: ids.append(create_dataset(home, path).id)))
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(ids) == 20 and folders(home) == [ids[0]]


def test_pages_search_and_chosen_rows(home, put):
    dataset = create_dataset(home, put("a.jsonl", pairs(10_000)))
    page, total = dataset.page(9_990, 25)
    assert total == 10_000 and [number for number, _ in page] == list(range(9_991, 10_001))
    page, total = dataset.page(0, 3, query="QUESTION 77")
    assert total == 111 and [number for number, _ in page] == [77, 770, 771]
    page, total = dataset.page(1, 5, rows_only=[5_000, 3, 9_999])
    assert total == 3 and [number for number, _ in page] == [5_000, 9_999]
    assert dataset.page(0, 5, query="question 3", rows_only=[5, 3, 33])[1] == 2
    assert dataset.page(20_000)[0] == [] and dataset.page(-5, 1)[0][0][0] == 1
    assert dataset.page(0, 5, query="no such text") == ([], 0)


@pytest.mark.parametrize("query", ['"', "a\nb", "ö", "ÖL", "\\", "(", "%", "1.10"])
def test_search_for_special_letters(home, put, query):
    rows = pairs(20) + [{"prompt": 'x " \\ ( % a\nb Öl 1.10', "response": "y"}]
    page, total = create_dataset(home, put("a.jsonl", rows)).page(0, 5, query=query)
    assert total == 1 and page[0][0] == 21


def test_dropped_rows_are_listed_and_have_no_example(home, put):
    rows = pairs(30)
    rows[4]["response"], rows[9]["response"], rows[20]["prompt"] = "", None, " "
    dataset = create_dataset(home, put("a.jsonl", rows))
    assert dataset.num_rows == 30 and dataset.num_examples == 27
    found = {problem.what: problem.rows for problem in dataset.problems}
    assert found == {"The answer is empty.": (5, 10), "The prompt is empty.": (21,)}
    assert dataset.example(5) is None and dataset.example(99) is None and dataset.example(0) is None
    assert dataset.example(6).row == 6
    assert dataset.page(0, 5, rows_only=found["The answer is empty."])[1] == 2
    assert [dataset.rows_of(at) for at in (0, 1, 2)] == [[5, 10], [21], []]


def test_one_row_is_taken_with_a_warning(home, put):
    dataset = create_dataset(home, put("a.csv", "prompt,response\nhi,there\n"))
    assert dataset.num_examples == 1 and dataset.problems[0].severity == "warning"
    assert dataset.split(0.5, 1) == ([0], [])


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.csv", "prompt,response\na,\nb,\n", "the answer is empty"),
        ("a.jsonl", '{"messages": "hello"}\n', "choose"),
        ("b.csv", "prompt,response\na,b,c\n", "3 columns"),
    ],
)
def test_nothing_is_left_behind_by_a_refused_file(home, put, name, content, what):
    try:
        dataset = create_dataset(home, put(name, content))
    except UserError as error:
        assert what in error.what and name in error.where and error.fix
        assert folders(home) == []
    else:
        assert what in dataset.problems[0].what and dataset.problems[0].severity == "error"


def test_unsure_is_stored_and_can_be_mapped(home, put):
    dataset = create_dataset(home, put("a.csv", "foo,bar,n\na,b,1\nc,d,2\n"))
    assert not dataset.sure and dataset.mapping is None and dataset.num_examples == 0
    assert dataset.num_rows == 2 and dataset.problems[0].severity == "error"
    assert dataset.suggestion is None
    assert dataset.page(0)[1] == 2 and dataset.example(1) is None
    assert list(dataset.examples()) == [] and dataset.split(0.1, 1) == ([], [])
    mapping = ColumnMapping("prompt_completion", {"prompt": "bar", "completion": "foo"})
    mapped = remap_dataset(home, dataset.id, mapping)
    assert mapped.id != dataset.id and mapped.mapping == mapping and mapped.sure
    assert mapped.example(2).messages[0]["content"] == "d" and mapped.page(0) == dataset.page(0)
    assert remap_dataset(home, dataset.id, mapping) == mapped
    assert (
        create_dataset(home, put("a.csv", "foo,bar,n\na,b,1\nc,d,2\n"), mapping=mapping) == mapped
    )
    with pytest.raises(UserError):
        remap_dataset(home, dataset.id, ColumnMapping("text", {"text": "gone"}))
    with pytest.raises(UserError):
        create_dataset(
            home, put("b.csv", "a,b\nc,d\n"), mapping=ColumnMapping("text", {"text": "gone"})
        )


def test_columns_that_come_late_are_known(home, put):
    rows = [*pairs(600), {"prompt": "a", "response": "b", "late": 5}]
    dataset = create_dataset(home, put("a.jsonl", rows))
    assert dataset.columns == ["prompt", "response", "late"]
    assert dataset.page(600)[0][0][1] == {"prompt": "a", "response": "b", "late": "5"}
    many = [{f"c{at}": 1} for at in range(1_001)]
    with pytest.raises(UserError, match="1,000 different columns"):
        create_dataset(home, put("b.jsonl", many))


def test_tools_and_tool_calls_are_kept(home, put):
    call = [{"type": "function", "function": {"name": "f", "arguments": '{"x": 1.50}'}}]
    chat = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "", "tool_calls": call},
        {"role": "tool", "content": "1"},
        {"role": "assistant", "content": "b"},
    ]
    tools = [{"type": "function", "function": {"name": "f"}}]
    dataset = create_dataset(home, put("a.jsonl", [{"messages": chat, "tools": tools}]))
    call[0]["function"]["arguments"] = {"x": NumberText("1.50")}
    assert dataset.example(1).messages == chat and dataset.example(1).tools == tools


def test_typed_rows(home):
    rows = [
        {"prompt": "a", "response": "b"},
        {"prompt": "", "response": None},
        {"prompt": "c", "response": ""},
    ]
    dataset = create_from_rows(home, rows, name="My rows")
    rows[1]["response"] = float("nan")  # how a table widget may say "empty"
    assert dataset.name == "My rows" and dataset.num_rows == 2 and dataset.num_examples == 1
    assert create_from_rows(home, rows, name="Again").id == dataset.id
    with pytest.raises(UserError):
        create_from_rows(home, rows[1:2], name="x")
    with pytest.raises(UserError) as caught:
        create_from_rows(home, [{"prompt": "a", "response": "\ud83d"}], name="x")
    assert caught.value.where == "x, row 1"


@pytest.mark.parametrize("bad", ["", "../x", "/etc", "a" * 65, "0123456789abcdef", "..", ".", None])
def test_unknown_ids_are_refused(home, bad):
    with pytest.raises(UserError):
        open_dataset(home, bad)


def test_case_58_empty_one_row_and_all_the_same(home, put):
    with pytest.raises(UserError, match="The file is empty"):
        create_dataset(home, put("empty.jsonl", ""))
    one = create_dataset(home, put("one.jsonl", pairs(1)))
    assert {"one_row"} == {problem.code for problem in one.problems}
    assert one.split(0.5, 1) == ([0], [])
    same = create_dataset(home, put("same.jsonl", pairs(1) * 40))
    (problem,) = [found for found in same.problems if found.code == "duplicates"]
    assert problem.count == 39 and problem.what == "All rows are the same."
    assert same.split(0.5, 1) == (list(range(40)), [])
    overlap = with_held_out(home, create_dataset(home, put("a.jsonl", pairs(30))).id, one.id)
    assert overlap.problems[0].what == "1 of 1 held-out rows are also trained on."


def test_case_68_names_are_labels_only(home, put):
    names = ("../x", "/etc/passwd", "CON", "a\0b", "🎉" * 10_000, ".", "-rf", "{0}", "$(id)")
    for at, name in enumerate(names, start=1):
        dataset = create_dataset(home, put("a.jsonl", pairs(at)), name=name)
        assert len(dataset.name) <= 120 and "\0" not in dataset.name
        assert dataset.dir.parent == home / "datasets" and len(dataset.id) == 16
    assert label("a\u202eb\nc") == "abc" and label("\0") == "data"


def test_a_full_disk_leaves_nothing(home, put, monkeypatch):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer.GroupWriter, "add", full)
    with pytest.raises(UserError, match="No space left"):
        create_dataset(home, put("a.jsonl", pairs(5)))
    assert folders(home) == []


def test_old_half_made_folders_are_removed(home, put):
    for name, age in (("old", 100_000), ("new", 10)):
        folder = home / "datasets" / f".building-{name}"
        folder.mkdir(parents=True)
        (folder / "rows.parquet").write_text("x")
        os.utime(folder, (time.time() - age,) * 2)
    dataset = create_dataset(home, put("a.jsonl", pairs(5)))
    assert folders(home) == [".building-new", dataset.id]


def test_half_made_folders_are_not_listed(home, put):
    dataset = create_dataset(home, put("a.jsonl", pairs(5)))
    (home / "datasets" / ".building-x").mkdir()
    (home / "datasets" / "0123456789abcdef").mkdir()
    foreign = home / "datasets" / "my own folder"
    foreign.mkdir()
    (foreign / "meta.json").write_text("{}")
    assert list_datasets(home) == [dataset]


def test_a_dataset_that_is_deleted_while_they_are_listed(home, put, monkeypatch):
    kept, gone = (create_dataset(home, put(f"{n}.jsonl", pairs(n))) for n in (5, 6))
    original = stored_dataset.open_dataset

    def slow(home, dataset_id):
        if dataset_id == gone.id and gone.dir.exists():
            delete_dataset(home, gone.id)
        return original(home, dataset_id)

    monkeypatch.setattr(stored_dataset, "open_dataset", slow)
    assert list_datasets(home) == [kept]


@pytest.mark.parametrize(
    ("count", "share", "held"),
    [
        (1_000, 0.05, 50),
        (100, 0.05, 16),
        (20, 0.05, 4),
        (4, 0.05, 0),
        (10**6, 0.05, 1_000),
        (100, 0, 0),
        (100, 0.5, 50),
        (1, 0.5, 0),
        (0, 0.5, 0),
        (3, 0.9, 2),
    ],
)
def test_held_out_share_is_clamped(count, share, held):
    assert num_held_out(count, share) == held


def test_split_is_seeded_complete_and_keeps_duplicates_together(home, put):
    rows = pairs(200)
    rows += rows[:60]
    dataset = create_dataset(home, put("a.jsonl", rows))
    train, held = dataset.split(0.1, 7)
    assert sorted(train + held) == list(range(260)) and len(held) == 26
    assert held == sorted(held) and (train, held) == dataset.split(0.1, 7)
    assert held != dataset.split(0.1, 8)[1]
    text = [str(example.messages) for example in dataset.examples()]
    assert not {text[at] for at in train} & {text[at] for at in held}
    assert [example.row - 1 for example in dataset.examples(held)] == held
    assert [example.row for example in dataset.examples([7, 3, 259])] == [8, 4, 260]


def test_all_rows_of_a_problem_are_kept(home, put):
    rows = [row | {"response": ""} if at % 2 else row for at, row in enumerate(pairs(5_000))]
    dataset = create_dataset(home, put("a.jsonl", rows))
    assert len(dataset.problems[0].rows) == 100 and dataset.problems[0].count == 2_500
    assert dataset.rows_of(0) == list(range(2, 5_001, 2))
    assert dataset.page(0, 2, rows_only=dataset.rows_of(0))[1] == 2_500


def test_split_of_one_row_many_times():
    import numpy as np

    train, held = split_indices(np.zeros(50, np.int64), 0.1, 1)
    assert len(train) == 50 and held == []


def test_resolve_data(home, put, tmp_path):
    path = put("a.jsonl", pairs(5))
    dataset = resolve_data(home, str(path))
    assert resolve_data(home, dataset.id) == dataset
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(UserError, match="no data file"):
        resolve_data(home, str(folder))
    (folder / "a.jsonl").write_bytes(path.read_bytes())
    (folder / "readme.md").write_text("x")
    assert resolve_data(home, str(folder)) == dataset
    (folder / "b.csv").write_text("x")
    with pytest.raises(UserError, match="2 data files"):
        resolve_data(home, str(folder))
    for unknown in ("someone/some-data.csv", "nothing", str(tmp_path / "gone.csv"), "f" * 16, ""):
        with pytest.raises(UserError):
            resolve_data(home, unknown)


def test_parquet_round_trip_of_large_rows(home, tmp_path):
    import pyarrow.parquet as pq

    rows = [{"prompt": "p" * 300_000, "response": str(at)} for at in range(40)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    dataset = create_dataset(home, tmp_path / "a.parquet")
    assert pq.ParquetFile(dataset.dir / "rows.parquet").metadata.num_row_groups > 1
    assert dataset.page(39)[0] == [(40, rows[39])] and dataset.example(40).row == 40


def test_the_store_needs_no_torch():
    heavy = {"torch", "transformers", "datasets", "pandas"}
    code = f"import sys, trainer_backend.data.store.lookup\nprint({heavy} & set(sys.modules))"
    root = Path(__file__).parents[4]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "set()"
