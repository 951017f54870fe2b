"""HTTP routes of a stored dataset: its images and its downloads.

Both take ids, never paths, and require the page's login.
"""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from sft_ui.access import signed_in
from trainer_backend.data.images import image_suffix
from trainer_backend.data.store import download_dataset, open_dataset
from trainer_backend.errors import UserError

IMAGE_NAME = re.compile(r"[0-9a-f]{64}\.[a-z]{3,4}")
KINDS = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
}
FORMATS = {"jsonl": "JSON Lines", "parquet": "Parquet", "csv": "CSV"}
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, max-age=3600",
}


def build_routes(home: Path) -> list[Route]:
    """The two routes for Gradio's web server."""

    def image(request: Request) -> Response:
        found = image_file(home, request.path_params["dataset"], request.path_params["name"])
        if found is None:
            return PlainTextResponse("There is no such image.", 404)
        path, kind = found
        return FileResponse(path, media_type=kind, headers=SAFE)

    def download(request: Request) -> Response:
        format = request.path_params["format"]
        if format not in FORMATS:
            return PlainTextResponse(f"Use one of {', '.join(FORMATS)}.", 404)
        try:
            path = download_dataset(home, request.path_params["dataset"], format)
        except UserError as error:
            return PlainTextResponse(f"{error.what} {error.fix}", 404)
        return FileResponse(
            path, filename=path.name, media_type="application/octet-stream", headers=SAFE
        )

    return [
        Route("/studio/images/{dataset}/{name}", behind_login(image)),
        Route("/studio/datasets/{dataset}/{format}", behind_login(download)),
    ]


def behind_login(answer: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
    """The route, answered with 401 for visitors who have not signed in to the page."""

    async def asked(request: Request) -> Response:
        if not await signed_in(request):
            return PlainTextResponse("Sign in first.", 401)
        # a download of a large dataset takes a while: keep it off the event loop
        return await run_in_threadpool(answer, request)

    return asked


def image_file(home: Path, dataset_id: str, name: str) -> tuple[Path, str] | None:
    """(path, media type) of an image; None if missing or if its bytes do not match its suffix."""
    if not IMAGE_NAME.fullmatch(name):
        return None
    try:
        path = open_dataset(home, dataset_id).dir / "images" / name
        with path.open("rb") as file:
            suffix = image_suffix(file.read(16))
    except (UserError, OSError):
        return None
    return (path, KINDS[suffix]) if suffix in KINDS and suffix == path.suffix else None


def image_address(dataset_id: str, name: str) -> str:
    """URL of an image, relative to the page."""
    return f"studio/images/{dataset_id}/{name.rpartition('/')[2]}"


def download_address(dataset_id: str, format: str) -> str:
    """URL of a download, relative to the page."""
    return f"studio/datasets/{dataset_id}/{format}"
