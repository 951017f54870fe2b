"""Hashes: of uploaded files, of the examples as trained, and the id of a dataset.

Near duplicates are not known here.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

VERSION = 3  # of the files in a dataset's folder
READING = 4  # part of every id; raise it when the same files are read differently
TRAINED = ("messages", "text", "tools", "images")  # the columns of an example that train


class ExampleHash:
    """sha256 over examples in their order, fed one by one."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, *columns: str | None) -> None:
        """Add the TRAINED columns of one example; NUL separates them, as no text contains it."""
        text = "".join((column or "") + "\0" for column in columns)
        self._hash.update(text.encode())

    def hexdigest(self) -> str:
        """64 hex digits."""
        return self._hash.hexdigest()


def hash_of_examples(path: Path) -> str:
    """The ExampleHash of an examples.parquet as it is now."""
    made = ExampleHash()
    with pq.ParquetFile(path, memory_map=True) as file:
        known = [name for name in TRAINED if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=2_000, columns=known):
            cells = {name: batch.column(name).to_pylist() for name in known}
            nothing = [None] * batch.num_rows
            for columns in zip(*(cells.get(name, nothing) for name in TRAINED), strict=True):
                made.add(*columns)
    return made.hexdigest()


def content_hash(paths: Iterable[Path]) -> str:
    """sha256 of a file's bytes; for several files, of their hashes in order."""
    hashes = []
    for path in paths:
        with path.open("rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def dataset_id(facts: dict[str, Any]) -> str:
    """The id of a dataset: the first 16 hex digits of a sha256 over all that decides its rows."""
    text = json.dumps([READING, facts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
