"""The app of a Hugging Face Space without a login: one page that explains how to set one.

It replaces the studio: no scheduler and no model process is started.
"""

import os
import re

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from sft_ui.access import AUTH_VARIABLE, HEADERS
from sft_ui.theme import static_text

SPACE_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
WHAT = "This Space is locked: it has no login."
FIX = f'Set the secret {AUTH_VARIABLE} to "name:password" in Settings, Variables and secrets.'


def locked_page(space: str) -> str:
    """The page as HTML, with a link to the settings of `space` ("owner/name")."""
    settings = Markup("the Space's <b>Settings</b>")
    if SPACE_NAME.fullmatch(space):
        address = f"https://huggingface.co/spaces/{space}/settings"
        link = Markup('<a href="{}" target="_blank" rel="noopener">{}</a>')
        settings = link.format(address, settings)
    return static_text("locked.html").replace("[settings]", settings)


async def locked_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request with the page, or with a JSON error where a script asks."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": WHAT})
    elif scope["type"] == "http":
        answer = _answer(Request(scope))
        answer.raw_headers += [*HEADERS, (b"cache-control", b"no-store"), (b"connection", b"close")]
        await answer(scope, receive, send)


def _answer(request: Request) -> Response:
    reads = request.method in ("GET", "HEAD")
    if reads and (request.url.path == "/" or "text/html" in request.headers.get("accept", "")):
        page = locked_page(os.environ.get("SPACE_ID", ""))
        return HTMLResponse(page, 200 if request.url.path == "/" else 403)
    return JSONResponse({"error": f"{WHAT} {FIX}"}, 403)
