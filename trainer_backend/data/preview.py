"""The first rows of a file and what they seem to mean, in a moment, before the whole file is read.

Nothing is stored or checked here: dataset_writer.py reads all of it.
"""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from trainer_backend.data.files import open_rows
from trainer_backend.data.formats import Detection, detect_format
from trainer_backend.data.json_values import cell_text


@dataclass(frozen=True)
class Preview:
    """What can be said of a file at once: rows as (number, {column: text}), meaning, notes."""

    rows: list[tuple[int, dict[str, str]]]
    detection: Detection
    notes: list[str]


def preview_file(file: Path, count: int = 25) -> Preview:
    """Read the first `count` rows; UserError if already these cannot be read."""
    reader = open_rows(Path(file))
    first = list(islice(reader, count))
    shown = [
        (number, {column: cell_text(cell) for column, cell in row.items()}) for number, row in first
    ]
    return Preview(shown, detect_format([row for _, row in first]), reader.notes)
