"""A stored dataset as rows for the trainer. Nothing is tokenised, and no image is opened."""

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from datasets.table import MemoryMappedTable

from trainer_backend.data.formats import Example, with_system
from trainer_backend.data.images import ImageRef, is_stored_name
from trainer_backend.data.json_values import to_json
from trainer_backend.data.store import StoredDataset
from trainer_backend.data.store.pages import replace_file
from trainer_backend.disk import free_bytes
from trainer_backend.errors import UserError

ON_DISK = 8 * 2**20  # compressed bytes of the examples from which rows are not held in memory
ROOM = 20  # times these bytes: rows unpacked, their tokens, and once more when they are packed


def training_row(
    example: Example, system_prompt: str = "", stored: StoredDataset | None = None
) -> dict:
    """One example as encode() and the trainer take it: {"messages", "tools"?} or {"text"}.

    With its dataset given also {"images"?}, as file paths.
    """
    row = example.as_row(system_prompt)
    images = image_paths(stored, example.images) if stored else None
    return {**row, "images": images} if images else row


def image_paths(stored: StoredDataset, names: Sequence[ImageRef] | None) -> list[str]:
    """Paths of a dataset's stored images. Raises UserError for a name outside the dataset."""
    paths = []
    for name in names or ():
        if not (isinstance(name, str) and is_stored_name(name)):
            raise UserError(
                "An image name does not belong to this dataset.",
                f"{stored.name}: {str(name)[:80]}",
                "Load the data again.",
            )
        paths.append(str(stored.dir / name))
    return paths


def training_dataset(
    stored: StoredDataset, system_prompt: str = "", folder: Path | None = None
) -> Dataset:
    """All examples in order: a column `text`, or `messages` (JSON text), `tools` and `images`.

    Columns that no example uses are left out; a cell of `images` is a list of file paths. With a
    `folder`, the rows of a large dataset lie in a file there instead of in memory, and so do the
    tokens made of them: several processes share its pages, and only the first tokenises.
    """
    columns = _columns(stored)
    key = sha256(json.dumps([stored.hash, system_prompt, columns]).encode()).hexdigest()[:16]
    if folder is None or "images" in columns or not _belongs_on_disk(stored, folder):
        batches = list(_batches(stored, columns, system_prompt))
        return Dataset(pa.Table.from_batches(batches, _schema(columns)), fingerprint=key)
    path = folder / f"{key}.arrow"
    if not path.is_file():
        folder.mkdir(exist_ok=True)
        replace_file(path, lambda part: _write(part, stored, columns, system_prompt))
    return Dataset(MemoryMappedTable.from_file(str(path)), fingerprint=key)


def _columns(stored: StoredDataset) -> list[str]:
    """The columns of training_dataset() that an example uses."""
    if stored.format == "text":
        return ["text"]
    known = pq.read_schema(stored.examples_path).names  # earlier datasets have no images
    some = [name for name in ("tools", "images") if name in known and _is_used(stored, name)]
    return ["messages", *some]


def _is_used(stored: StoredDataset, column: str) -> bool:
    with pq.ParquetFile(stored.examples_path) as file:
        batches = file.iter_batches(columns=[column])
        return any(batch[column].null_count < len(batch) for batch in batches)


def _belongs_on_disk(stored: StoredDataset, folder: Path) -> bool:
    """Whether the rows are many, and the disk has room for them and their tokens."""
    size = stored.examples_path.stat().st_size
    return size >= ON_DISK and free_bytes(folder.parent) >= ROOM * size


def _schema(columns: Sequence[str]) -> pa.Schema:
    kinds = {"images": pa.list_(pa.string())}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in columns])


def _batches(
    stored: StoredDataset, columns: list[str], system_prompt: str
) -> Iterator[pa.RecordBatch]:
    schema = _schema(columns)
    with pq.ParquetFile(stored.examples_path, memory_map=True) as file:
        for batch in file.iter_batches(columns=columns):
            cells = {name: batch[name] for name in columns}
            if "images" in cells:
                cells["images"] = pa.array(
                    [
                        image_paths(stored, json.loads(names) if names else None)
                        for names in batch["images"].to_pylist()
                    ],
                    schema.field("images").type,
                )
            if system_prompt and "messages" in cells:
                texts = batch["messages"].to_pylist()
                prompted = [to_json(with_system(json.loads(one), system_prompt)) for one in texts]
                cells["messages"] = pa.array(prompted, pa.string())
            yield pa.RecordBatch.from_arrays(list(cells.values()), schema=schema)


def _write(path: Path, stored: StoredDataset, columns: list[str], system_prompt: str) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, _schema(columns)) as writer:
        for batch in _batches(stored, columns, system_prompt):
            writer.write_batch(batch)
