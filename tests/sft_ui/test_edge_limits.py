"""Requests the middleware rejects before reading their body, as raw ASGI calls."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sft_ui.access import MAX_BODY, MAX_LOGIN_BODY, build_middleware

COOKIE = (b"cookie", b"access-token-unsecure-x=token")
PIECE = b"[],[]," * 10_000


async def swallow(request: Request):
    return PlainTextResponse(str(len(await request.body())))


@pytest.fixture
def app():
    """The middleware in front of an application that reads every body."""
    route = Route("/{path:path}", swallow, methods=["GET", "HEAD", "POST"])
    app = Starlette(routes=[route], middleware=build_middleware("127.0.0.1"))
    app.auth, app.auth_dependency = lambda user, password: False, None
    app.cookie_id, app.tokens = "x", {"token": "anna"}
    return app


def run_apart(coroutine) -> None:
    """Run in a thread of its own: the browser tests leave an event loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, coroutine).result()


def ask(app, path, *headers, method="POST", size=None, kind="application/json"):
    """(status, text, bytes taken) of a request with a body of `size` bytes; None is endless."""
    sent, taken = [], 0
    named = [(b"host", b"127.0.0.1"), (b"content-type", kind.encode()), *headers]
    if size is not None:
        named.append((b"content-length", str(size).encode()))

    async def receive():
        nonlocal taken
        left = len(PIECE) if size is None else min(len(PIECE), size - taken)
        taken += left
        assert taken < 200 * 2**20, "it reads on and on"
        return {
            "type": "http.request",
            "body": PIECE[:left],
            "more_body": size is None or taken < size,
        }

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode()}
    scope |= {"query_string": b"", "headers": named, "root_path": "", "scheme": "http"}
    scope |= {"http_version": "1.1", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 5)}
    run_apart(app(scope, receive, send))
    body = b"".join(one.get("body", b"") for one in sent)
    return SimpleNamespace(status=sent[0]["status"], text=body.decode(), taken=taken, head=sent[0])


@pytest.mark.parametrize("size", [60_000_000, None])
@pytest.mark.parametrize(
    "path",
    ["/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/run/chat", "/x", "/logout", "/"],
)
def test_without_a_login_nothing_of_a_body_is_read(app, path, size):
    answer = ask(app, path, size=size)
    assert (answer.status, answer.taken) == (401, 0)
    assert json.loads(answer.text)["detail"]["error"] == "Not authenticated"
    headers = dict(answer.head["headers"])
    assert headers[b"connection"] == b"close" and b"content-security-policy" in headers


@pytest.mark.parametrize(
    "path", ["/config", "/gradio_api/heartbeat/1", "/gradio_api/file=/a", "/x"]
)
def test_without_a_login_only_what_signing_in_needs_is_answered(app, path):
    assert ask(app, path, method="GET", size=0).status == 401


@pytest.mark.parametrize(
    "path", ["/", "/assets/a.js", "/static/a.png", "/theme.css", "/gradio_api/startup-events"]
)
def test_the_page_that_asks_for_the_login_is_answered(app, path):
    assert ask(app, path, method="GET", size=0).status == 200


def test_a_login_is_small(app):
    assert ask(app, "/login", size=60).status == 200
    assert ask(app, "/login", size=60_000_000).taken == 0
    endless = ask(app, "/login")
    assert endless.status == 413 and endless.taken < MAX_LOGIN_BODY + 2 * len(PIECE)


def test_a_large_body_is_refused_by_its_length(app):
    answer = ask(app, "/gradio_api/queue/join", COOKIE, size=60_000_000)
    assert (answer.status, answer.taken) == (413, 0) and "larger than 32 MB" in answer.text
    kind = "multipart/form-data; boundary=a"  # an upload is recognised by its path
    assert ask(app, "/gradio_api/queue/join", COOKIE, size=60_000_000, kind=kind).status == 413
    assert ask(app, "/gradio_api/queue/join", COOKIE, size=20_000_000).text == "20000000"


def test_an_endless_body_is_rejected_at_the_limit(app):
    answer = ask(app, "/gradio_api/queue/join", COOKIE)
    assert answer.status == 413 and "larger than 32 MB" in answer.text
    assert answer.taken <= MAX_BODY + len(PIECE)
    lying = ask(app, "/gradio_api/queue/join", COOKIE, (b"content-length", b"9"))
    assert lying.status == 413


def test_uploads_have_a_limit_of_their_own(app):
    assert ask(app, "/gradio_api/upload", COOKIE, size=60_000_000).text == "60000000"


def test_without_a_login_in_use_everything_passes_but_not_of_any_size(app):
    app.auth = None
    assert ask(app, "/gradio_api/queue/join", size=1_000).status == 200
    assert ask(app, "/gradio_api/queue/join", size=60_000_000).status == 413


def test_a_socket_needs_the_login_too(app):
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": "/x", "headers": [(b"host", b"127.0.0.1")]}
    scope |= {"query_string": b"", "root_path": "", "scheme": "ws", "subprotocols": []}
    run_apart(app(scope, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
