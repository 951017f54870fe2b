"""RELIABILITY case 42: what goes wrong with the Hub is told apart, and no token is shown."""

import errno

import pytest
from huggingface_hub import errors as hub

from trainer_backend.downloads import Damaged, Silence
from trainer_backend.errors import UserError
from trainer_backend.models import source
from trainer_backend.models.hub_errors import hub_failure

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz"


class Answer:
    """What the client keeps of an answer."""

    def __init__(self, status: int, **headers):
        self.status_code, self.headers, self.request = status, headers, None


def of_kind(kind: type, status: int, **headers) -> Exception:
    error = kind.__new__(kind)
    Exception.__init__(error, f"{status} for https://user:{TOKEN}@hub/x?token={TOKEN}")
    error.response = Answer(status, **headers)
    return error


class TransportError(Exception):
    """Stands for the HTTP client's."""


class ReadError(TransportError):
    """A connection cut while reading."""


CASES = [
    (hub.OfflineModeIsEnabled("offline"), "hub_down", "HF_HUB_OFFLINE is set"),
    (Silence(120), "hub_partial", "no data for 2 min"),
    (Damaged("x"), "hub_partial", "damaged"),
    (OSError(errno.ENOSPC, "No space left on device"), "disk_full", "disk is full"),
    (TransportError("no route"), "hub_down", "cannot be reached"),
    (of_kind(hub.HfHubHTTPError, 503), "hub_down", "503"),
    (of_kind(hub.HfHubHTTPError, 401), "hub_login", "token"),
    (of_kind(hub.GatedRepoError, 403), "hub_gated", "licence"),
    (of_kind(hub.HfHubHTTPError, 429, **{"retry-after": "30"}), "hub_busy", "wait"),
    (of_kind(hub.RepositoryNotFoundError, 404), "hub_missing", "no such"),
    (of_kind(hub.RevisionNotFoundError, 404), "hub_missing", "version"),
    (ReadError("closed"), "hub_partial", "interrupted"),
    (OSError("Consistency check failed: file should be 9 bytes"), "hub_partial", "interrupted"),
]


@pytest.mark.parametrize(("error", "code", "words"), CASES, ids=lambda value: str(value)[:20])
def test_case_42_each_has_its_own_message(error, code, words):
    found = hub_failure(error, "Base model “a/b”")
    assert found.code == code and words in found.what
    assert TOKEN not in str(found) and found.fix


def test_case_42_how_long_to_wait_is_told():
    error = of_kind(hub.HfHubHTTPError, 429, **{"retry-after": "30"})
    assert "30 seconds" in hub_failure(error, "x").fix


def test_other_exceptions_are_not_of_the_hub():
    assert hub_failure(ValueError("x"), "x") is None
    assert hub_failure(OSError(5, "Input/output error"), "x") is None


def test_case_42_the_download_tells_them_apart(monkeypatch):
    def refused(*args, **kwargs):
        raise of_kind(hub.GatedRepoError, 403)

    monkeypatch.setattr(source.hub.HfApi, "model_info", refused)
    with pytest.raises(UserError) as caught:
        source.download_from_hub("own/er")
    assert caught.value.code == "hub_gated" and "own/er" in caught.value.where


def test_a_commit_is_read_from_the_folder_of_the_cache(tmp_path):
    folder = tmp_path / "snapshots" / ("b" * 40)
    assert source.hub_revision(folder) == "b" * 40
    assert source.hub_revision(tmp_path / "snapshots" / "main") is None
    assert source.hub_revision(tmp_path / "models" / ("b" * 40)) is None
