"""Downloads read back as stored, and CSV cells cannot run as formulas."""

import csv
import json

import pyarrow.parquet as pq
import pytest

from trainer_backend.data.store.dataset import open_dataset
from trainer_backend.data.store.downloads import CSV_NOTE, download_dataset
from trainer_backend.data.store.uploads import create_dataset, create_from_rows
from trainer_backend.data.store.versions import apply_fixes, edit_rows
from trainer_backend.errors import UserError

LINES = """\
{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":" b\\n"}],"n":1,"x":1.10,"l":[1,2]}
{"messages":[{"role":"user","content":"ä🎉"},{"role":"assistant","content":"","tool_calls":[{"type":"function","function":{"name":"f","arguments":{"y":1E5}}}]},{"role":"tool","content":"1"},{"role":"assistant","content":"c"}],"n":-2,"x":null,"l":[]}
{"messages":[{"role":"user","content":"e"},{"role":"assistant","content":"f"}],"n":3,"late":true,"l":null}
"""  # noqa: E501
RISKY = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\tx", "\rx", "\u00a0=x", " =x"]
SAFE = ["a=b", "-5", "-5.25", "x", "", "'=x", "5"]


@pytest.fixture
def chats(home, tmp_path):
    (tmp_path / "chats.jsonl").write_text(LINES, encoding="utf-8")
    return create_dataset(home, tmp_path / "chats.jsonl")


def test_jsonl_is_the_upload_byte_for_byte(home, chats):
    path = download_dataset(home, chats.id, "jsonl")
    assert path.read_text(encoding="utf-8") == LINES
    assert path.is_relative_to(home / "exports") and path.name == "data-chats.jsonl"


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_examples_come_back_exactly(home, chats, format):
    back = create_dataset(home, download_dataset(home, chats.id, format))
    assert back.hash == chats.hash and back.num_rows == chats.num_rows
    assert [one.messages for one in back.examples()] == [one.messages for one in chats.examples()]


def test_parquet_has_types_where_they_lose_nothing(home, chats, tmp_path):
    table = pq.read_table(download_dataset(home, chats.id, "parquet"))
    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert types["n"] == "int64" and types["late"] == "bool" and types["x"] == "string"
    assert table["x"].to_pylist() == ["1.10", None, None]
    assert types["messages"] == "string"  # only one of them has tool calls
    rows = [{"prompt": "a", "response": "b", "tags": ["x"]}, {"prompt": "c", "response": "d"}]
    (tmp_path / "tags.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = create_dataset(home, tmp_path / "tags.jsonl")
    table = pq.read_table(download_dataset(home, dataset.id, "parquet"))
    assert table["tags"].to_pylist() == [["x"], None]


def test_case_65_cells_that_a_spreadsheet_would_run_are_neutralised_in_csv_alone(home):
    rows = [{"prompt": text, "response": f"answer {at}"} for at, text in enumerate(RISKY + SAFE)]
    rows = [row for row in rows if row["prompt"]]
    dataset = create_from_rows(home, rows, name="risky")
    prompts = [row["prompt"] for row in rows]
    with download_dataset(home, dataset.id, "csv").open(newline="", encoding="utf-8") as file:
        written = [row["prompt"] for row in csv.DictReader(file)]
    assert written == [f"'{text}" if text in RISKY else text for text in prompts]
    path = download_dataset(home, dataset.id, "csv", neutralise=False)
    with path.open(newline="", encoding="utf-8") as file:
        assert [row["prompt"] for row in csv.DictReader(file)] == prompts
    for format in ("jsonl", "parquet"):
        back = create_dataset(home, download_dataset(home, dataset.id, format))
        assert [cells["prompt"] for _, cells in back.page(0)[0]] == prompts
    assert [cells["prompt"] for _, cells in open_dataset(home, dataset.id).page(0)[0]] == prompts
    assert "'" in CSV_NOTE and "unchanged" in CSV_NOTE


def test_a_dangerous_column_name_is_neutralised_too(home):
    dataset = create_from_rows(home, [{"prompt": "a", "response": "b", "=x()": "1"}], name="x")
    assert "'=x()" in download_dataset(home, dataset.id, "csv").read_text().splitlines()[0]


def test_a_cleaned_version_is_what_is_downloaded(home):
    rows = [{"prompt": f"question {at}", "response": f"answer {at} "} for at in range(25)]
    dataset = create_from_rows(home, rows, name="my data!.csv")
    fixed = apply_fixes(home, dataset.id, {"outer_space": "trim"})
    edited = edit_rows(home, fixed.id, drops=[1])
    path = download_dataset(home, edited.id)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {"prompt": "question 1", "response": "answer 1"} and len(lines) == 24
    assert path.name == "data-my-data-v3.jsonl"


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "CON", "a\0b", "🎉" * 99, "{0}", "$(id)"])
def test_case_68_names_never_become_paths(home, name):
    rows = [{"prompt": "a", "response": "b"}]
    path = download_dataset(home, create_from_rows(home, rows, name=name).id)
    assert path.parent.parent == home / "exports" and len(path.name) < 60
    assert set(path.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    assert path.name.startswith("data-")


def test_a_failed_download_leaves_nothing(home, chats, monkeypatch):
    with pytest.raises(UserError, match="cannot be saved as"):
        download_dataset(home, chats.id, "exe")
    with pytest.raises(UserError):
        download_dataset(home, "0" * 16)

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trainer_backend.data.store.pages.os.replace", full)
    with pytest.raises(UserError, match="No space left"):
        download_dataset(home, chats.id)
    assert list((home / "exports").rglob("*.*")) == []
