"""Fetches the data files of a Hugging Face Hub dataset, or only their first rows, at one commit.

No code of the repository runs, and torch is not imported.
"""

import errno
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import huggingface_hub as hub
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import constants
from huggingface_hub import errors as hub_errors

from trainer_backend.data.readers.files import open_rows
from trainer_backend.data.readers.hub_files import HubChoices, Splits, configs_of, converted_configs
from trainer_backend.data.readers.options import TABLE_SUFFIXES, listed
from trainer_backend.downloads import (
    Damaged,
    Gauge,
    HubFiles,
    NoBar,
    Progress,
    Silence,
    fetch_hub_files,
    silent,
    time_in_words,
    watched,
)
from trainer_backend.errors import UserError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,199}")
CONVERTED = "refs/convert/parquet"  # the Hub's own branch of Parquet copies
TIMEOUT = 5  # seconds for an answer, so that being offline is noticed soon
BATCH_ROWS = 256
BLOCK = 1 << 20  # bytes fetched at a time


def is_hub_id(text: str) -> bool:
    """Whether a text could be a dataset id like “owner/name”."""
    return bool(HUB_ID.fullmatch(text)) and ".." not in text


def hub_choices(repo_id: str, *, revision: str | None = None) -> HubChoices:
    """The configs and splits of a Hub dataset and its commit; no rows are fetched.

    Raises UserError: malformed id, offline, unknown, gated, no readable data.
    """
    where = _place(repo_id, revision)
    with _hub_errors(where):
        info = hub.HfApi().dataset_info(repo_id, revision=revision, timeout=TIMEOUT)
        card = info.card_data.to_dict() if info.card_data else None
        configs = configs_of(_names(info), card)
        if not configs and revision is None:
            try:
                info = hub.HfApi().dataset_info(repo_id, revision=CONVERTED, timeout=TIMEOUT)
            except hub_errors.RevisionNotFoundError:
                pass
            else:
                configs = converted_configs(_names(info))
    if not configs:
        fix = f"Choose a dataset with files in {', '.join(TABLE_SUFFIXES)}."
        raise UserError("The dataset has no data file that can be read here.", where, fix)
    assert info.sha is not None, "the Hub names the commit of every revision"
    return HubChoices(repo_id, info.sha, configs)


def download_hub_data(
    repo_id: str,
    *,
    config: str | None = None,
    split: str = "train",
    revision: str | None = None,
    max_rows: int | None = None,
    on_download: Progress = silent,
) -> list[Path]:
    """Fetch the files of one split, with `max_rows` no more of them than these rows need.

    Of a Parquet or JSON Lines file only the rows needed are fetched. Raises UserError as
    hub_choices does, and for an unknown config or split; and what `on_download` raises, to stop
    it. Whole files that were begun before are continued.
    """
    choices = hub_choices(repo_id, revision=revision)
    where = _place(repo_id, revision)
    splits = _chosen_config(choices.configs, config, where)
    files = _chosen_split(splits, split, where)
    if max_rows is not None and max_rows < 1:
        raise UserError("A row limit must be 1 or more.", where, "Give a larger number.")
    gauge = Gauge(f"Downloading {repo_id}")
    with _hub_errors(where):
        return watched(gauge, lambda: _download(choices, files, max_rows, gauge), on_download)


def _download(
    choices: HubChoices, files: tuple[str, ...], max_rows: int | None, gauge: Gauge
) -> list[Path]:
    """The files, or the first of them that have `max_rows` rows."""
    if max_rows is None:  # all at once, so that their size is known from the beginning
        fetch_hub_files(HubFiles(choices.repo_id, choices.revision, files, "dataset"), gauge)
    paths: list[Path] = []
    missing = max_rows
    for file in files:
        paths.append(_fetch(choices, file, missing, gauge))
        if missing is not None:
            missing -= _count_rows(paths[-1], missing)
            if missing <= 0:
                break
    return paths


def _names(info: hub.DatasetInfo) -> list[str]:
    return [one.rfilename for one in info.siblings or []]


def _place(repo_id: str, revision: str | None) -> str:
    """The dataset as errors name it. Raises UserError for a malformed id or revision."""
    where = f"Hub dataset “{repo_id[:200]}”"
    if not is_hub_id(repo_id):
        fix = "Write it as owner/name, as at the top of the dataset's page."
        raise UserError("This is not the id of a Hub dataset.", where, fix)
    if revision is not None and (not REVISION.fullmatch(revision) or ".." in revision):
        fix = "Use a branch, a tag or a commit of the dataset."
        raise UserError("This is not a revision of a Hub dataset.", where, fix)
    return where


def _chosen_config(configs: dict[str, Splits], config: str | None, where: str) -> Splits:
    if config is None:
        if "default" in configs or len(configs) == 1:
            return configs.get("default") or next(iter(configs.values()))
        what = f"The dataset has {len(configs):,} configs; choose one."
        raise UserError(what, where, f"Choose one of {listed(configs)}.")
    if config not in configs:
        what = f"The dataset has no config “{config[:60]}”."
        raise UserError(what, where, f"Choose one of {listed(configs)}.")
    return configs[config]


def _chosen_split(splits: Splits, split: str, where: str) -> tuple[str, ...]:
    if split in splits:
        return splits[split]
    what = f"The dataset has no split “{split[:60]}”."
    raise UserError(what, where, f"Choose one of {listed(splits)}.")


def _fetch(choices: HubChoices, file: str, max_rows: int | None, gauge: Gauge) -> Path:
    """One file, or its first rows if these can be fetched alone and the file is not cached."""
    repo, commit = choices.repo_id, choices.revision
    if max_rows is not None and file.lower().endswith((".parquet", ".jsonl", ".ndjson")):
        cached = hub.try_to_load_from_cache(repo, file, repo_type="dataset", revision=commit)
        if not isinstance(cached, str):
            return _first_rows(choices, file, max_rows, gauge)
    fetch_hub_files(HubFiles(repo, commit, (file,), "dataset"), gauge)
    path = hub.hf_hub_download(
        repo, file, repo_type="dataset", revision=commit, etag_timeout=TIMEOUT, tqdm_class=NoBar
    )
    return Path(path)


def _first_rows(choices: HubChoices, file: str, max_rows: int, gauge: Gauge) -> Path:
    """A file of the same kind with the first `max_rows` rows, cached beside the Hub's cache."""
    repo_id, revision = choices.repo_id, choices.revision
    folder = Path(constants.HF_HUB_CACHE) / "first-rows" / repo_id.replace("/", "--") / revision
    stem, _, ending = file.replace("/", "--").rpartition(".")
    target = folder / f"{stem}.first-{max_rows}.{ending}"
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    system = hub.HfFileSystem(endpoint=constants.ENDPOINT, block_size=BLOCK)
    handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as out:
            with system.open(f"datasets/{repo_id}@{revision}/{file}", "rb") as remote:
                copy = _copy_parquet if ending.lower() == "parquet" else _copy_lines

                def tell() -> None:
                    gauge.file(file, remote.cache.total_requested_bytes, None)

                copy(remote, out, max_rows, tell)
        os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)
    return target


def _copy_lines(remote: BinaryIO, out: BinaryIO, max_rows: int, tell: Callable[[], None]) -> None:
    count = 0
    for line in remote:
        out.write(line)
        tell()
        count += not line.isspace()
        if count >= max_rows:
            return


def _copy_parquet(remote: BinaryIO, out: BinaryIO, max_rows: int, tell: Callable[[], None]) -> None:
    missing = max_rows
    with pq.ParquetFile(pa.PythonFile(remote, mode="r"), pre_buffer=False) as file:
        with pq.ParquetWriter(out, file.schema_arrow, compression="zstd") as writer:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
                writer.write_batch(batch.slice(0, missing))
                missing -= batch.num_rows
                tell()
                if missing <= 0:
                    return


def _count_rows(path: Path, most: int) -> int:
    count = 0
    for count, _ in open_rows(path):
        if count >= most:
            break
    return count


_ANSWERS = (
    (hub_errors.OfflineModeIsEnabled, "hub_down",
     "The Hub cannot be reached: HF_HUB_OFFLINE is set.",
     "Unset HF_HUB_OFFLINE, or give the path of a data file on this machine."),
    (hub_errors.GatedRepoError, "hub_gated", "You must accept the terms of this dataset first.",
     "Accept them on the dataset's page, then set HF_TOKEN and try again."),
    (hub_errors.RevisionNotFoundError, "hub_missing", "The dataset has no such revision.",
     "Check the spelling, or leave the revision empty for the newest."),
    (hub_errors.RepositoryNotFoundError, "hub_missing", "The Hub has no such dataset.",
     "Check the spelling (owner/name). A private dataset also needs HF_TOKEN."),
    (hub_errors.RemoteEntryNotFoundError, "hub_missing", "A file of the dataset no longer exists.",
     "Choose another split, or another revision."),
    (pa.ArrowInvalid, "", "A Parquet file of the dataset is damaged.",
     "Choose another split, or leave out the row limit."),
)  # fmt: skip  # (error, code, what, fix), the special before the general


@contextmanager
def _hub_errors(where: str) -> Iterator[None]:
    """Turn errors of the Hub and the network into UserErrors."""
    try:
        yield
    except (hub_errors.HTTPError, OSError, pa.ArrowInvalid) as error:
        raise _refused(error, where) from None


def _refused(error: Exception, where: str) -> UserError:
    for kind, code, what, fix in _ANSWERS:
        if isinstance(error, kind):
            return UserError(what, where, fix, code=code)
    if getattr(error, "errno", None) == errno.ENOSPC:
        what, fix = "The disk is full.", "Free some space, or choose a row limit."
        return UserError(what, where, fix, code="disk_full")
    if isinstance(error, Silence):
        what = f"The download stopped: no data for {time_in_words(error.seconds)}."
        fix = "Try again: it continues where it stopped."
        return UserError(what, where, fix, code="hub_partial")
    if isinstance(error, Damaged) or "Consistency check failed" in str(error):
        what, fix = "The download ended early.", "Try again: it continues where it stopped."
        return UserError(what, where, fix, code="hub_partial")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        fix = "Set HF_TOKEN to an access token that may read this dataset."
        what = "The Hub does not accept the access token."
        return UserError(what, where, fix, code="hub_login")
    if status == 429:
        what = "The Hub received too many requests from this address."
        return UserError(what, where, "Wait a few minutes and try again.", code="hub_busy")
    fix = "Check the network, or give the path of a data file on this machine."
    what = "The Hub cannot be reached."
    if status:
        what = f"The Hub answered with error {status}."
        fix = "Try again later, or give the path of a data file on this machine."
    return UserError(what, where, fix, code="hub_down")
