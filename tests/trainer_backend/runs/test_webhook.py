"""A notice when a run ends: off by default, sent once to one address, never in the way."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from run_files import set_state

from trainer_backend.runs.webhook import VARIABLE, send_notice
from trainer_backend.runs.writer import RunWriter


@pytest.fixture
def hook():
    """A web address that keeps what is posted to it; `hook.answer` is what it says."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(server.answer)
            self.send_header("Location", f"http://127.0.0.1:{server.server_port}/elsewhere")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.answer, server.received = 204, received
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def address(hook) -> str:
    return f"http://127.0.0.1:{hook.server_port}/hook"


def test_nothing_is_sent_unless_asked_for(run, hook, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert not send_notice(run) and hook.received == []


def test_the_end_of_a_run_is_sent_and_only_the_end(run, hook, monkeypatch):
    monkeypatch.setenv(VARIABLE, address(hook))
    writer = RunWriter(run)
    writer.enter("preparing")
    writer.enter("running", step=3, total_steps=4)
    assert hook.received == []
    writer.enter("failed", error={"what": "The disk is full."})
    (sent,) = hook.received
    assert (sent["id"], sent["state"], sent["step"]) == (run.id, "failed", 3)
    assert sent["error"] == "The disk is full." and run.name() in sent["text"]
    assert "dir" not in sent


def test_the_address_is_never_kept(run, hook, monkeypatch):
    monkeypatch.setenv(VARIABLE, address(hook))
    set_state(run, state="running")
    RunWriter(run).enter("finished")
    for path in run.dir.rglob("*"):
        assert not path.is_file() or b"/hook" not in path.read_bytes(), path


def test_a_redirect_is_not_followed(run, hook, monkeypatch):
    monkeypatch.setenv(VARIABLE, address(hook))
    hook.answer = 302
    assert not send_notice(run) and len(hook.received) == 1


@pytest.mark.parametrize(
    "value", ["http://127.0.0.1:9/none", "file:///etc/passwd", "hooks", "http://"]
)
def test_an_address_that_does_not_work_ends_no_run(run, monkeypatch, value):
    monkeypatch.setenv(VARIABLE, value)
    set_state(run, state="running")
    RunWriter(run).enter("finished")
    assert run.state()["state"] == "finished"
