"""Hub datasets: one file at a pinned revision, and every refusal in words (no network here)."""

from types import SimpleNamespace

import huggingface_hub as hub
import pytest

from trainer_backend.data.hub import choose_file, download_hub_data, is_hub_id
from trainer_backend.data.store import resolve_data
from trainer_backend.errors import UserError


@pytest.fixture
def hub_with(monkeypatch, tmp_path):
    """A Hub that holds these files, or answers with an error."""

    def make(*names: str, error: Exception | None = None):
        asked = []

        def dataset_info(_self, repo_id, timeout):
            if error:
                raise error
            return SimpleNamespace(
                sha="abc", siblings=[SimpleNamespace(rfilename=name) for name in names]
            )

        def download(repo_id, file, **options):
            asked.append((repo_id, file, options["revision"]))
            path = tmp_path / file.rpartition("/")[2]
            path.write_text("prompt,response\na,b\n")
            return str(path)

        monkeypatch.setattr(hub.HfApi, "dataset_info", dataset_info)
        monkeypatch.setattr(hub, "hf_hub_download", download)
        return asked

    return make


def test_a_hub_dataset_is_loaded_at_its_revision(hub_with, tmp_path):
    asked = hub_with("README.md", "data/train.csv", "data/test.csv")
    dataset = resolve_data(tmp_path, "someone/some-data")
    assert dataset.num_examples == 1 and dataset.name == "someone/some-data"
    assert asked == [("someone/some-data", "data/train.csv", "abc")]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["a.jsonl", "README.md", ".gitattributes"], "a.jsonl"),
        (["data/train-0-of-1.parquet", "data/test-0.parquet"], "data/train-0-of-1.parquet"),
        (["dataset_infos.json", "x.json.gz"], "x.json.gz"),
        (["training_notes.csv", "train.csv", "test.csv"], "train.csv"),
    ],
)  # fmt: skip
def test_the_file_is_chosen(names, chosen):
    assert choose_file(names, "x") == chosen


@pytest.mark.parametrize(
    ("names", "what"),
    [(["README.md", "x.zip"], "no data file"), (["a.csv", "b.csv"], "2 data files"),
     (["train-0.parquet", "train-1.parquet", "x.csv"], "2 data files"), ([], "no data file")],
)  # fmt: skip
def test_no_file_is_guessed(names, what):
    with pytest.raises(UserError, match=what):
        choose_file(names, "x")


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (hub.errors.OfflineModeIsEnabled("offline"), "cannot be reached"),
        (ConnectionError("no route"), "cannot be reached"),
        (TimeoutError(), "cannot be reached"),
    ],
)
def test_offline_is_said(hub_with, error, what):
    hub_with(error=error)
    with pytest.raises(UserError, match=what) as caught:
        download_hub_data("someone/data")
    assert "someone/data" in caught.value.where and caught.value.fix


@pytest.mark.parametrize("kind", ["RepositoryNotFoundError", "GatedRepoError"])
def test_unknown_and_gated(hub_with, kind):
    error_type = getattr(hub.errors, kind)
    hub_with(error=error_type.__new__(error_type))
    with pytest.raises(UserError):
        download_hub_data("someone/data")


def test_ids():
    assert is_hub_id("HuggingFaceH4/no_robots") and is_hub_id("a/b-c.d")
    for text in ("nothing", "a/b/c", "../x", "http://x/y", "/etc", "a/..b", "a b/c", ""):
        assert not is_hub_id(text)
