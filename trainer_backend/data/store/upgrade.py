"""Datasets that an earlier version of the app stored: what is missing is added when one is opened.

What the newest version stores is written in dataset_writer.py.
"""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainer_backend.data.store.fingerprint import VERSION, hash_of_examples
from trainer_backend.data.store.lengths import LENGTHS, answer_length, save_lengths
from trainer_backend.data.store.pages import iter_examples
from trainer_backend.home import write_json


def upgraded(folder: Path, meta: dict) -> dict:
    """The facts of meta.json as this version knows them; an older folder is brought up to date."""
    if meta.get("format_version", 2) >= VERSION:
        return meta
    if not (folder / LENGTHS).is_file():
        save_lengths(folder, _lengths(folder))
    meta = meta | {
        "format_version": VERSION,
        "hash": hash_of_examples(folder / "examples.parquet"),
        "source": {"files": [{"name": meta["name"], "bytes": meta["num_bytes"]}]},
    }
    write_json(folder / "meta.json", meta)
    return meta


def _lengths(folder: Path) -> np.ndarray:
    """int64 (3, rows): row number, characters of the row, characters of its answer."""
    rows = pq.read_table(folder / "rows.parquet", columns=["row"])["row"].to_numpy()
    with pq.ParquetFile(folder / "rows.parquet") as file:
        sizes = [pc.utf8_length(batch["cells"]) for batch in file.iter_batches(columns=["cells"])]
    characters = np.concatenate([size.to_numpy() for size in sizes])
    answers = np.zeros(len(rows), np.int64)
    for example in iter_examples(folder / "examples.parquet"):
        answers[np.searchsorted(rows, example.row)] = answer_length(example)
    return np.stack([rows, characters.astype(np.int64), answers])
