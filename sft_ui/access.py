"""Who may use the page: login, host and origin checks, headers on every answer.

What a visitor can do once inside is in the tabs.
"""

import hmac
import ipaddress
import os
import threading
import time
from collections.abc import Callable, Mapping

from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse

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
HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Login:
    """Checks one user and password; after five wrong tries it waits before it looks again."""

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


def read_login(text: str | None = None, environment: Mapping[str, str] = os.environ):
    """The login from "user:password" (flag first, then SFT_STUDIO_AUTH), or None."""
    text = text or environment.get(AUTH_VARIABLE, "")
    if not text:
        return None
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise UserError(
            "The login is not complete.",
            f"{AUTH_VARIABLE} or --auth",
            'Write it as "user:password", both parts filled.',
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


def check_bind(
    host: str,
    login: Login | None,
    *,
    allow_open: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Refuse to open the page to a network without a login, unless that was asked for."""
    if is_loopback(host) or login or allow_open or environment.get("SPACE_ID"):
        return
    raise UserError(
        "Everyone on the network could use this page.",
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
    """Refuses requests that another website makes, and adds the safety headers to every answer."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        reason = _why_refused(scope)

        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        if reason:
            await PlainTextResponse(reason, 403)(scope, receive, send_with_headers)
        else:
            await self.app(scope, receive, send_with_headers)


def _why_refused(scope) -> str:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    site = headers.get("sec-fetch-site", "none")
    navigates = headers.get("sec-fetch-mode") == "navigate" and scope["method"] in ("GET", "HEAD")
    if site in ("cross-site", "same-site") and not navigates:
        return "Requests from another website are blocked."
    # Gradio's file route would fetch any public address on the server's behalf.
    if "/file=http" in scope["path"] or "/proxy=" in scope["path"]:
        return "Addresses of other servers are not served."
    return ""
