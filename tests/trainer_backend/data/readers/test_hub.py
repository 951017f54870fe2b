"""Hub datasets: configs and splits, one pinned revision, few bytes fetched, errors."""

import io
import json
import random

import huggingface_hub as hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_hub import CONVERTED_SHA, SHA, FakeHub, running
from huggingface_hub import constants

from trainer_backend.data.readers.files import read_rows
from trainer_backend.data.readers.hub import download_hub_data, hub_choices, is_hub_id
from trainer_backend.data.readers.hub_files import configs_of, converted_configs
from trainer_backend.errors import UserError


@pytest.fixture
def online(monkeypatch, tmp_path):
    """A fake Hub that the library talks to; nothing is cached from test to test."""
    with running(FakeHub()) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.endpoint)
        template = served.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield served


def lines(name: str, count: int, size: int = 10) -> bytes:
    texts = random.Random(name)
    rows = (
        {"prompt": f"{name} {n}", "response": texts.randbytes(size).hex()} for n in range(count)
    )
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(name: str, count: int, size: int = 10) -> bytes:
    rows = [json.loads(line) for line in lines(name, count, size).splitlines()]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out, row_group_size=100)
    return out.getvalue()


def prompts(paths) -> list[str]:
    return [row["prompt"] for _, row in read_rows(paths)]


def test_shards_of_a_split_are_fetched_at_one_revision(online):
    online.files[SHA] = {
        "README.md": b"#",
        "data/train-00000-of-00002.parquet": parquet("a", 3),
        "data/train-00001-of-00002.parquet": parquet("b", 2),
        "data/test-00000-of-00001.parquet": parquet("t", 1),
    }
    choices = hub_choices("o/d")
    assert choices.revision == SHA and list(choices.configs) == ["default"]
    assert {name: len(files) for name, files in choices.configs["default"].items()} == {
        "train": 2, "test": 1,
    }  # fmt: skip
    paths = download_hub_data("o/d")
    assert prompts(paths) == ["a 0", "a 1", "a 2", "b 0", "b 1"]
    assert all(SHA in str(path) for path in paths)
    assert prompts(download_hub_data("o/d", split="test", revision=SHA)) == ["t 0"]


def test_no_more_shards_are_fetched_than_the_row_limit_needs(online):
    names = [f"train-{at}.csv" for at in range(3)]
    online.files[SHA] = {name: f"prompt,response\n{name},b\nc,d\n".encode() for name in names}
    assert len(download_hub_data("o/d", max_rows=3)) == 2
    assert sorted(online.fetched) == names[:2]


@pytest.mark.parametrize("max_rows", [None, 900])
def test_the_bytes_of_a_download_are_told_and_whole_files_are_continued(online, max_rows):
    online.files[SHA] = {"train.jsonl": lines("x", 1_000, 300)}
    online.pace, told = (50_000, 0.1), []

    def stop(what, done, total, unit, words=""):
        told.append((what, words))
        if done > 100_000 and online.pace:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_hub_data("o/d", max_rows=max_rows, on_download=stop)
    assert told[-1][0] == "Downloading o/d" and " kB" in told[-1][1]
    online.pace = None
    online.ranges.clear()
    rows = prompts(download_hub_data("o/d", max_rows=max_rows, on_download=stop))
    assert len(rows) == (max_rows or 1_000)
    if max_rows is None:  # first rows are read by ranges of the file, and read again
        assert int(online.ranges[0].removeprefix("bytes=").rstrip("-")) > 90_000


@pytest.mark.parametrize(("name", "make"), [("train.jsonl", lines), ("train.parquet", parquet)])
def test_of_a_large_file_only_the_first_rows_are_fetched(online, name, make):
    online.files[SHA] = {name: make("x", 1_500, 3_000)}
    paths = download_hub_data("o/d", max_rows=7)
    assert prompts(paths) == [f"x {n}" for n in range(7)]
    assert online.fetched[name] < len(online.files[SHA][name]) / 2
    before = dict(online.fetched)
    assert download_hub_data("o/d", max_rows=7) == paths and online.fetched == before


def test_a_row_limit_beyond_the_file_takes_all_of_it(online):
    online.files[SHA] = {"a.jsonl": lines("a", 5), "b.jsonl": lines("b", 5)}
    assert len(prompts(download_hub_data("o/d", max_rows=100))) == 10
    with pytest.raises(UserError, match="1 or more"):
        download_hub_data("o/d", max_rows=0)


def test_the_hubs_parquet_copy_is_used_where_the_files_cannot_be_read(online):
    online.files[SHA] = {"script.py": b"", "images.tar": b""}
    online.files[CONVERTED_SHA] = {"plain/train/0000.parquet": parquet("c", 2)}
    choices = hub_choices("o/d")
    assert choices.revision == CONVERTED_SHA
    assert choices.configs == {"plain": {"train": ("plain/train/0000.parquet",)}}
    assert prompts(download_hub_data("o/d")) == ["c 0", "c 1"]


def test_what_can_be_chosen_is_named(online):
    online.files[SHA] = {"en/a.csv": b"prompt,response\na,b\n", "de/a.csv": b"x"}
    online.card = {
        "configs": [
            {"config_name": "en", "data_files": [{"split": "all", "path": "en/*.csv"}]},
            {"config_name": "de", "data_dir": "de"},
        ]
    }
    for given, what, choice in (
        ({}, "2 configs", "“en”, “de”"),
        ({"config": "fr"}, "no config “fr”", "“en”, “de”"),
        ({"config": "en"}, "no split “train”", "“all”"),
        ({"config": "en", "split": "all", "revision": "gone"}, "no such revision", "spelling"),
        ({"revision": "../x"}, "not a revision", "branch"),
    ):
        with pytest.raises(UserError, match=what) as caught:
            download_hub_data("o/d", **given)
        assert choice in caught.value.fix
    assert prompts(download_hub_data("o/d", config="en", split="all")) == ["a"]


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "hub_login"), (403, "hub_login"), (429, "hub_busy"), (500, "hub_down")],
)
def test_errors_of_the_hub_become_user_errors(online, monkeypatch, status, code):
    monkeypatch.setattr("time.sleep", lambda _: None)
    online.status = status
    with pytest.raises(UserError) as caught:
        hub_choices("o/d")
    assert caught.value.code in (code, "hub_missing") and "o/d" in caught.value.where


def test_unknown_empty_and_misspelt_ids(online):
    with pytest.raises(UserError, match="no data file"):
        hub_choices("o/d")
    with pytest.raises(UserError, match="no such dataset"):
        hub_choices("o/other")
    with pytest.raises(UserError, match="not the id"):
        hub_choices("http://x/y")


@pytest.mark.parametrize(
    "error", [hub.errors.OfflineModeIsEnabled("offline"), ConnectionError("no"), TimeoutError()]
)
def test_offline_is_a_user_error(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(hub.HfApi, "dataset_info", fail)
    with pytest.raises(UserError, match="cannot be reached") as caught:
        download_hub_data("someone/data")
    assert "someone/data" in caught.value.where and caught.value.fix


def test_gated(monkeypatch):
    def fail(*_, **__):
        raise hub.errors.GatedRepoError.__new__(hub.errors.GatedRepoError)

    monkeypatch.setattr(hub.HfApi, "dataset_info", fail)
    with pytest.raises(UserError, match="terms"):
        download_hub_data("someone/data")


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["a.jsonl", "README.md", ".gitattributes"], {"train": 1}),
        (["data/train-0-of-1.parquet", "data/test-0.parquet"], {"train": 1, "test": 1}),
        (["dataset_infos.json", "x.json.gz"], {"train": 1}),
        (["train.csv", "dev.csv", "testing.csv"], {"train": 1, "validation": 1, "test": 1}),
        (["train/a.csv", "train/b.csv", "x.csv"], {"train": 2}),
        (["a.csv", "b.csv", "c.parquet"], {"train": 2}),
        (["README.md", "x.zip", ".x/a.csv"], {}),
    ],
)
def test_splits_are_found_by_file_names(names, splits):
    found = configs_of(names, None).get("default", {})
    assert {name: len(files) for name, files in found.items()} == splits


@pytest.mark.parametrize(
    ("data_files", "splits"),
    [
        ("*.csv", {"train": ("a.csv", "b.csv")}),
        (["b.csv", "./a.csv"], {"train": ("b.csv", "a.csv")}),
        ({"train": "a.csv", "held": ["b.csv"]}, {"train": ("a.csv",), "held": ("b.csv",)}),
        ([{"split": "s", "path": "**/d.csv"}], {"s": ("sub/d.csv",)}),
        ([{"split": "s", "path": 5}, 7], {}),
    ],
)
def test_the_card_decides(data_files, splits):
    names = ["a.csv", "b.csv", "sub/d.csv"]
    found = configs_of(names, {"configs": [{"config_name": "c", "data_files": data_files}, None]})
    if splits:
        assert found == {"c": splits}
    else:
        assert list(found) == ["default"]


def test_the_converted_branch():
    names = ["a/train/0000.parquet", "a/train/0001.parquet", "a/partial-test/0000.parquet", "x.md"]
    assert {k: len(v) for k, v in converted_configs(names)["a"].items()} == {"train": 2, "test": 1}


def test_ids():
    assert is_hub_id("HuggingFaceH4/no_robots") and is_hub_id("a/b-c.d")
    for text in ("nothing", "a/b/c", "../x", "http://x/y", "/etc", "a/..b", "a b/c", ""):
        assert not is_hub_id(text)
