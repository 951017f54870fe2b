"""Access to the page: login, host, origin and size checks, security headers on every response.

Knows requests only, nothing of datasets, runs or components.
"""

import hmac
import inspect
import ipaddress
import os
import threading
import time
from collections.abc import Callable, Mapping

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trainer_backend.errors import UserError

AUTH_VARIABLE = "SFT_STUDIO_AUTH"
NUM_FREE_TRIES = 5
LOCK_SECONDS = 30.0
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; frame-ancestors 'self' https://huggingface.co; "
    "object-src 'none'; base-uri 'self'; form-action 'self'"
)
MAX_BODY, MAX_LOGIN_BODY = 32 * 2**20, 64 * 2**10  # bytes; uploads have a limit of their own
# Paths that the sign-in page and the start of the app need.
FOR_ALL = ("/", "/theme.css", "/gradio_api/theme.css", "/gradio_api/startup-events", "/logout",
           "/gradio_api/login_check", "/favicon.ico", "/robots.txt", "/manifest.json")  # fmt: skip
FOR_ALL_BELOW = ("/assets/", "/static/", "/svelte/", "/pwa_icon")
HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Login:
    """Checks one user and password; locked for LOCK_SECONDS after NUM_FREE_TRIES wrong attempts."""

    def __init__(self, user: str, password: str, clock: Callable[[], float] = time.monotonic):
        self._expected = (user.encode(), password.encode())
        self._clock = clock
        self._lock = threading.Lock()
        self._num_wrong = 0
        self._closed_until = 0.0

    def __call__(self, user: str, password: str) -> bool:
        with self._lock:
            if self._clock() < self._closed_until:
                return False
            same_user = hmac.compare_digest(user.encode(), self._expected[0])
            same_password = hmac.compare_digest(password.encode(), self._expected[1])
            if same_user and same_password:
                self._num_wrong = 0
                return True
            self._num_wrong += 1
            if self._num_wrong >= NUM_FREE_TRIES:
                self._closed_until = self._clock() + LOCK_SECONDS
            return False


def read_login(
    text: str | None = None, environment: Mapping[str, str] = os.environ
) -> Login | None:
    """The login from "user:password": the flag first, then SFT_STUDIO_AUTH; None without either.

    Raises UserError when a part is missing.
    """
    text = text or environment.get(AUTH_VARIABLE, "")
    if not text:
        return None
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise UserError(
            "The login is incomplete.",
            f"{AUTH_VARIABLE} or --auth",
            'Write it as "user:password"; neither part may be empty.',
        )
    return Login(user, password)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_locked(
    login: Login | None, *, allow_open: bool = False, environment: Mapping[str, str] = os.environ
) -> bool:
    """Whether this is a Hugging Face Space without a login and without `allow_open`."""
    return bool(environment.get("SPACE_ID")) and not (login or allow_open)


def check_bind(
    host: str,
    login: Login | None,
    *,
    allow_open: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Raises UserError when a network could reach the page without a login (see `allow_open`).

    A Space is public even when it listens on a loopback address.
    """
    if login or allow_open:
        return
    if is_loopback(host) and not is_locked(login, environment=environment):
        return
    raise UserError(
        "Anyone on the network could use this page.",
        f"--host {host} without a login",
        f'Set {AUTH_VARIABLE}="user:password", or use --host 127.0.0.1, or add --allow-open.',
    )


def build_middleware(host: str) -> list[Middleware]:
    """Host and origin checks for the web server."""
    edge = [Middleware(EdgeRules)]
    if is_loopback(host):
        names = ["127.0.0.1", "localhost", "[::1]", host]
        edge.insert(0, Middleware(TrustedHostMiddleware, allowed_hosts=list(dict.fromkeys(names))))
    return edge


class EdgeRules:
    """ASGI middleware that runs before routing and before a body is read.

    Rejects cross-site requests (403), everything but the sign-in page for visitors who have not
    signed in (401) and bodies that are too large (413). Adds the security headers to each response.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not await signed_in(HTTPConnection(scope)):
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        refusal = await _refusal(Request(scope))
        if refusal:
            refusal.headers["connection"] = "close"  # do not wait for the rest of the body
            await refusal(scope, receive, send_with_headers)
        else:
            await self.app(scope, _limited(receive, _most(scope)), send_with_headers)


async def _refusal(request: Request) -> Response | None:
    """The response to a request that is rejected; None for one that may pass."""
    reason = _why_refused(request.scope)
    if reason:
        return PlainTextResponse(reason, 403)
    if not _is_for_signing_in(request) and not await signed_in(request):
        detail = {"error": "Not authenticated", "auth_message": None}  # the shape Gradio uses
        return JSONResponse({"detail": detail}, 401)
    length, most = request.headers.get("content-length", ""), _most(request.scope)
    if most is not None and length.isdecimal() and int(length) > most:
        return PlainTextResponse(_too_large(most), 413)
    return None


def _is_for_signing_in(request: Request) -> bool:
    """Whether the sign-in page needs this request."""
    path = request.scope["path"]
    if request.method == "POST":
        return path.rstrip("/") == "/login"
    named = path in FOR_ALL or path.startswith(FOR_ALL_BELOW)
    return named and request.method in ("GET", "HEAD")


async def signed_in(request: HTTPConnection) -> bool:
    """Whether the visitor is signed in, by Gradio's access token or its auth dependency."""
    app = request.app
    if getattr(app, "auth", None) is None and getattr(app, "auth_dependency", None) is None:
        return True
    if app.auth_dependency is not None:
        user = app.auth_dependency(request)
        return (await user if inspect.isawaitable(user) else user) is not None
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return any(app.tokens.get(request.cookies.get(name)) is not None for name in names)


def _most(scope: Scope) -> int | None:
    """Bytes a body may have; None for uploads, which Gradio limits while it stores them."""
    path = scope["path"].rstrip("/")
    if path == "/gradio_api/upload":
        return None
    return MAX_LOGIN_BODY if path == "/login" else MAX_BODY


def _too_large(most: int) -> str:
    size = f"{most // 2**20} MB" if most >= 2**20 else f"{most // 2**10} KB"
    return f"The request is larger than {size}. Send data as a file upload."


def _limited(receive: Receive, most: int | None) -> Receive:
    """`receive` that raises HTTPException 413 once a body exceeds `most` bytes."""
    if most is None:
        return receive
    done = 0

    async def receive_some() -> Message:
        nonlocal done
        message = await receive()
        done += len(message.get("body", b""))
        if done > most:
            raise HTTPException(413, _too_large(most), {"connection": "close"})
        return message

    return receive_some


def _why_refused(scope: Scope) -> str:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    site = headers.get("sec-fetch-site", "none")
    navigates = headers.get("sec-fetch-mode") == "navigate" and scope["method"] in ("GET", "HEAD")
    if site in ("cross-site", "same-site") and not navigates:
        return "Requests from another website are blocked."
    # Gradio's file route would fetch any public address on the server's behalf.
    if "/file=http" in scope["path"] or "/proxy=" in scope["path"]:
        return "Fetching from other servers is not allowed."
    return ""
