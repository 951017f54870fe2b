"""A Space without a login: one page that explains how to set one, and nothing else."""

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from sft_ui.access import Login, check_bind, is_locked
from sft_ui.locked import locked_app
from trainer_backend.errors import UserError

SPACE = {"SPACE_ID": "someone/studio"}


@pytest.fixture
def client(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "someone/studio")
    return TestClient(locked_app, base_url="http://any.example")


def test_a_space_is_locked_until_it_has_a_login_or_is_opened_on_purpose():
    assert is_locked(None, environment=SPACE)
    assert not is_locked(Login("a", "b"), environment=SPACE)
    assert not is_locked(None, allow_open=True, environment=SPACE)
    assert not is_locked(None, environment={})


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "localhost"])
def test_a_space_id_alone_does_not_open_the_page(host):
    with pytest.raises(UserError):
        check_bind(host, None, environment=SPACE)
    check_bind(host, Login("a", "b"), environment=SPACE)
    check_bind(host, None, allow_open=True, environment=SPACE)


def test_the_page_says_what_to_set(client):
    answer = client.get("/")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    for words in ("SFT_STUDIO_AUTH", "name:password", "Variables and secrets", "Duplicate"):
        assert words in answer.text
    assert 'href="https://huggingface.co/spaces/someone/studio/settings"' in answer.text
    assert "frame-ancestors" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    ["/config", "/gradio_api/info", "/gradio_api/file=/etc", "/login", "/assets/a.js"],
)
def test_every_other_path_gives_the_same_error(client, path):
    page = client.get(path, headers={"accept": "text/html"})
    assert page.status_code == 403 and "SFT_STUDIO_AUTH" in page.text
    for answer in (client.get(path), client.post(path, json={"data": []}), client.put(path)):
        assert answer.status_code == 403 and "SFT_STUDIO_AUTH" in answer.json()["error"]


def test_a_socket_is_closed(client):
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/x"):
        pass


@pytest.mark.parametrize("space", ["", "<script>/x", 'a/b"onclick="x', "a/b/c"])
def test_an_invalid_space_name_is_not_linked(client, monkeypatch, space):
    monkeypatch.setenv("SPACE_ID", space)
    assert 'href="http' not in client.get("/").text
