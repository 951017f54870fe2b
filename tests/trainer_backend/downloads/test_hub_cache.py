"""Files of the Hub: bytes shown, stopped at once, continued; slow is not stuck."""

import random
import time

import huggingface_hub as hub
import pytest
from fake_hub import SHA, FakeHub, running
from huggingface_hub import constants

from trainer_backend.downloads import transfer
from trainer_backend.downloads.gauge import Task
from trainer_backend.errors import UserError
from trainer_backend.models.source import download_from_hub

WEIGHTS = random.Random(1).randbytes(400_000)
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"not wanted",
}


@pytest.fixture
def online(monkeypatch, tmp_path):
    """A fake Hub that the library talks to, with the model o/m; nothing is cached."""
    with running(FakeHub()) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.endpoint)
        template = served.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        served.files[SHA] = dict(FILES)
        yield served


class Stop(Exception):
    """A person stopped the run."""


class Seen:
    """A progress callback that keeps what it was told, and stops the download at some bytes."""

    def __init__(self, stop_at: int | None = None):
        self.steps: list[tuple] = []
        self.stop_at, self.stopped_at = stop_at, 0.0

    def __call__(self, what, done, total, unit, words=""):
        self.steps.append((what, done, total, unit, words))
        if self.stop_at is not None and done >= self.stop_at:
            self.stopped_at = time.monotonic()
            raise Stop

    def words(self) -> str:
        return " | ".join(step[4] for step in self.steps)


def whole(folder) -> bool:
    names = {path.name for path in folder.iterdir()}
    return names == set(FILES) - {"pytorch_model.bin"} and (
        (folder / "model.safetensors").read_bytes() == WEIGHTS
    )


def test_bytes_speed_and_time_left_are_told_and_the_hubs_client_knows_the_files(online):
    online.pace = (40_000, 0.15)
    seen = Seen()
    folder = download_from_hub("o/m", progress=seen)
    total = sum(map(len, FILES.values())) - len(b"not wanted")
    assert whole(folder) and folder.name == SHA
    assert seen.steps[0][:2] == ("Downloading o/m", 0) and seen.steps[-1][1:4] == (
        total, total, "bytes",
    )  # fmt: skip
    assert "of 400 kB · " in seen.words() and "kB/s · about " in seen.words()
    given = {"ignore_patterns": "*.bin", "local_files_only": True}
    assert hub.snapshot_download("o/m", **given) == str(folder)
    before = list(online.ranges)
    assert download_from_hub("o/m") == folder and online.ranges == before


def test_a_stop_is_heard_at_once_and_the_next_start_asks_only_for_the_rest(online):
    online.pace = (8_192, 0.05)
    seen = Seen(stop_at=60_000)
    with pytest.raises(Stop):
        download_from_hub("o/m", progress=seen)
    assert time.monotonic() - seen.stopped_at < 2
    online.pace = None
    online.ranges.clear()
    assert whole(download_from_hub("o/m"))
    asked = [int(one.removeprefix("bytes=").rstrip("-")) for one in online.ranges if one]
    assert len(asked) == 1 and 60_000 - 100 < asked[0] < len(WEIGHTS)


@pytest.mark.parametrize(
    "troubles",
    [[("cut", 100_000), ("cut", 50_000)], [("status", 503), ("cut", 10), ("status", 429)]],
)
def test_a_lost_connection_is_opened_again_where_it_ended(online, monkeypatch, troubles):
    monkeypatch.setattr(transfer, "RETRY_S", (0.1,))
    online.files[SHA] = {"tokenizer.json": b"{}", "model.safetensors": WEIGHTS, **FILES}
    download_from_hub("o/m", weights=False)
    online.troubles = list(troubles)
    assert whole(download_from_hub("o/m"))
    begun = sum(value for kind, value in troubles if kind == "cut")
    assert online.ranges[-1] == f"bytes={begun}-" and not online.troubles


def test_silence_is_said_tried_again_and_given_up_in_words(online, monkeypatch):
    monkeypatch.setattr(transfer, "GIVE_UP_S", 2.5)
    monkeypatch.setattr("trainer_backend.downloads.hub_cache.READ_S", 1)
    monkeypatch.setattr("trainer_backend.downloads.gauge.SILENT_S", 0.6)
    download_from_hub("o/m", weights=False)
    online.troubles = [("stall", 100_000), *[("stall", 0)] * 9]
    seen = Seen()
    with pytest.raises(UserError, match="no data for") as caught:
        download_from_hub("o/m", progress=seen)
    assert caught.value.code == "hub_partial" and "kept" in caught.value.fix
    assert "trying again" in seen.words()
    online.troubles = []
    assert whole(download_from_hub("o/m"))


def test_a_stop_in_the_middle_of_silence_is_heard(online):
    download_from_hub("o/m", weights=False)
    online.troubles = [("stall", 100_000)]
    began = time.monotonic()
    with pytest.raises(Stop):
        download_from_hub("o/m", progress=Seen(stop_at=100_000))
    assert time.monotonic() - began < 3


def test_no_room_on_the_disk_is_said_before_the_first_byte_with_both_sizes(online, monkeypatch):
    monkeypatch.setattr(transfer, "free_bytes", lambda folder: 300_000)
    with pytest.raises(UserError, match="400 kB .* 300 kB are free") as caught:
        download_from_hub("o/m")
    assert caught.value.code == "disk_full" and not online.ranges


def test_a_part_of_something_else_is_not_kept(online):
    with pytest.raises(Stop):
        online.pace = (8_192, 0.05)
        download_from_hub("o/m", progress=Seen(stop_at=60_000))
    online.pace = None
    part = next(path for path in hub_blobs() if path.stat().st_size > 1000)
    part.write_bytes(b"x" * part.stat().st_size)
    assert whole(download_from_hub("o/m"))


def hub_blobs():
    from pathlib import Path

    return list(Path(constants.HF_HUB_CACHE).glob("models--o--m/blobs/*.incomplete"))


def ended(task):
    task.join(20)
    return task.result()


def test_a_second_process_waits_says_so_and_fetches_nothing_twice(online):
    online.pace = (20_000, 0.1)
    first = Task(lambda: download_from_hub("o/m"))
    while not hub_blobs():
        time.sleep(0.05)
    seen = Seen()
    assert whole(download_from_hub("o/m", progress=seen)) and whole(ended(first))
    assert "another process is downloading this" in seen.words()
    assert online.fetched["model.safetensors"] == len(WEIGHTS)


def test_offline_by_choice_is_named(online, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        download_from_hub("o/m")
