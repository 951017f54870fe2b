"""Fills the Hub's cache on this machine with files of one commit, from where they stopped before.

The Hub's client keeps the layout of the cache and its locks; only the transfer of the bytes is
done here, over HTTPS: the client deletes a file that was stopped half-way, also with Xet.
"""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub as hub
from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, tqdm

from trainer_backend.downloads.gauge import Gauge
from trainer_backend.downloads.transfer import READ_S, SHA256, Answer, Transfer, fetch_all

ASK_S = 5  # for an answer without data, so that being offline is noticed soon
ASKED_AT_ONCE = 8
ETAG = re.compile(r"[\w.-]{1,200}")
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class NoBar(tqdm):
    """The client's progress bar, never drawn."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **{**options, "disable": True})


@dataclass(frozen=True)
class HubFiles:
    """Files of a repository of the Hub at one commit (40 hex digits); `kind`: model or dataset."""

    repo_id: str
    commit: str
    names: Sequence[str]
    kind: str = "model"

    def missing(self) -> list[str]:
        """The files that are not in the cache of this machine."""
        where: dict[str, Any] = {"repo_type": self.kind, "revision": self.commit}
        found = (
            (name, hub.try_to_load_from_cache(self.repo_id, name, **where)) for name in self.names
        )
        return [name for name, path in found if not isinstance(path, str)]


def fetch_hub_files(files: HubFiles, gauge: Gauge) -> None:
    """Fetch the files that are missing, as the cache's blobs; the client then finds them there.

    Raises what the Hub's client raises, UserError when the disk has no room, and Silence.
    """
    missing = files.missing()
    if not missing:
        return
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        asked = list(pool.map(partial(_transfer, files), missing))
    gauge.moved()
    by_blob = {one.target: one for one in asked if one is not None}  # two names, one content
    fetch_all(list(by_blob.values()), gauge)


def _transfer(files: HubFiles, name: str) -> Transfer | None:
    """How to fetch one file; None for a file that only the Hub's client can fetch."""
    url = hub.hf_hub_url(files.repo_id, name, repo_type=files.kind, revision=files.commit)
    facts = hub.get_hf_file_metadata(url, timeout=ASK_S)
    if not facts.etag or not ETAG.fullmatch(facts.etag) or facts.commit_hash != files.commit:
        return None
    if (facts.size or 0) > constants.MAX_HTTP_DOWNLOAD_SIZE:
        return None
    cache = Path(constants.HF_HUB_CACHE)
    folder = repo_folder_name(repo_id=files.repo_id, repo_type=files.kind)
    blob = cache / folder / "blobs" / facts.etag
    part = blob.with_name(f"{blob.name}.incomplete")  # as earlier versions of the client named it
    return Transfer(
        name=name,
        part=part,
        target=blob,
        open_at=partial(_open, url),
        size=facts.size,
        sha256=facts.etag if part.exists() and SHA256.fullmatch(facts.etag) else None,
        lock=cache / ".locks" / folder / f"{facts.etag}.lock",
    )


@contextmanager
def _open(url: str, position: int) -> Iterator[Answer]:
    """Ask the Hub for a file from a position on; each time anew, because addresses expire."""
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if position:
        headers["Range"] = f"bytes={position}-"
    with get_session().stream("GET", url, headers=headers, timeout=READ_S) as answer:
        hf_raise_for_status(answer)
        ranged = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if answer.status_code == 206 and ranged:
            yield Answer(int(ranged[1]), int(ranged[2]), answer.iter_bytes())
            return
        size = answer.headers.get("Content-Length", "")
        yield Answer(0, int(size) if size.isdigit() else None, answer.iter_bytes())
