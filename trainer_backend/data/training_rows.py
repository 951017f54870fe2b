"""A stored dataset as the rows the trainer takes.

Text becomes tokens in chat_template.py, not here.
"""

import json

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

from .conversations import with_system
from .formats import Example
from .json_values import to_json
from .store import StoredDataset


def training_row(example: Example, system_prompt: str = "") -> dict:
    """One example as encode() and the trainer take it: {"messages", "tools"?} or {"text"}."""
    if example.messages is None:
        return {"text": example.text}
    row = {"messages": with_system(example.messages, system_prompt)}
    return {**row, "tools": example.tools} if example.tools else row


def training_dataset(stored: StoredDataset, system_prompt: str = "") -> Dataset:
    """All examples in order: a column `text`, or `messages` (JSON text) and `tools` if used."""
    if stored.format == "text":
        return Dataset(pq.read_table(stored.examples_path, columns=["text"]))
    table = pq.read_table(stored.examples_path, columns=["messages", "tools"])
    if table["tools"].null_count == len(table):
        table = table.drop_columns("tools")
    if system_prompt:
        texts = [
            to_json(with_system(json.loads(text), system_prompt))
            for text in table["messages"].to_pylist()
        ]
        at = table.schema.get_field_index("messages")
        table = table.set_column(at, "messages", pa.array(texts, pa.string()))
    return Dataset(table)
