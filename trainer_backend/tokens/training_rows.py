"""A stored dataset as rows for the trainer. Nothing is tokenised, and no image is opened."""

import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from trainer_backend.data.formats import Example, with_system
from trainer_backend.data.images import ImageRef, is_stored_name
from trainer_backend.data.json_values import to_json
from trainer_backend.data.store import StoredDataset
from trainer_backend.errors import UserError


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


def training_dataset(stored: StoredDataset, system_prompt: str = "") -> Dataset:
    """All examples in order: a column `text`, or `messages` (JSON text), `tools` and `images`.

    Columns that no example uses are left out; a cell of `images` is a list of file paths.
    """
    if stored.format == "text":
        return Dataset(pq.read_table(stored.examples_path, columns=["text"]))
    known = pq.read_schema(stored.examples_path).names  # earlier datasets have no images
    columns = [name for name in ("messages", "tools", "images") if name in known]
    table = pq.read_table(stored.examples_path, columns=columns)
    unused = [name for name in columns[1:] if table[name].null_count == len(table)]
    table = table.drop_columns(unused)
    if "images" in table.column_names:
        files = [
            image_paths(stored, json.loads(names) if names else None)
            for names in table["images"].to_pylist()
        ]
        at = table.schema.get_field_index("images")
        table = table.set_column(at, "images", pa.array(files, pa.list_(pa.string())))
    if system_prompt:
        texts = [
            to_json(with_system(json.loads(text), system_prompt))
            for text in table["messages"].to_pylist()
        ]
        at = table.schema.get_field_index("messages")
        table = table.set_column(at, "messages", pa.array(texts, pa.string()))
    return Dataset(table)
