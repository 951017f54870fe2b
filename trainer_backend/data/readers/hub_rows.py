"""The first rows of a large file on the Hub, without fetching the rest of it.

Parquet is read by row group over ranges, JSON Lines until enough lines are there; other kinds are
fetched whole (hub.py).
"""

import os
import tempfile
from pathlib import Path
from typing import BinaryIO

import huggingface_hub as hub
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import constants

BATCH_ROWS = 256
BLOCK = 1 << 20  # bytes fetched at a time


def is_cut_by_rows(file: str) -> bool:
    """Whether the first rows of such a file can be had alone."""
    return file.lower().endswith((".parquet", ".jsonl", ".ndjson"))


def first_rows(repo_id: str, revision: str, file: str, max_rows: int) -> Path:
    """A local file of the same kind with the first `max_rows` rows; kept beside the Hub's cache."""
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
                copy(remote, out, max_rows)
        os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)
    return target


def _copy_lines(remote: BinaryIO, out: BinaryIO, max_rows: int) -> None:
    count = 0
    for line in remote:
        out.write(line)
        count += not line.isspace()
        if count >= max_rows:
            return


def _copy_parquet(remote: BinaryIO, out: BinaryIO, max_rows: int) -> None:
    missing = max_rows
    with pq.ParquetFile(pa.PythonFile(remote, mode="r"), pre_buffer=False) as file:
        with pq.ParquetWriter(out, file.schema_arrow, compression="zstd") as writer:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
                writer.write_batch(batch.slice(0, missing))
                missing -= batch.num_rows
                if missing <= 0:
                    return
