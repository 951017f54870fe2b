"""The first rows of a file and what they seem to mean, in a moment, before the whole file is read.

Nothing is stored or checked here: dataset_writer.py reads all of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from trainer_backend.data.formats import Detection, detect_format
from trainer_backend.data.json_values import cell_text
from trainer_backend.data.readers import open_rows
from trainer_backend.data.readers.options import DEFAULT, ReadOptions

MOMENT = 100_000  # rows that are read within about a second


@dataclass(frozen=True)
class Preview:
    """What can be said of a file at once: rows as (number, {column: text}), meaning, notes."""

    rows: list[tuple[int, dict[str, str]]]
    detection: Detection
    notes: list[str]
    kind: str = ""  # of the first file: "csv", "json", "parquet", "arrow", "xlsx" or "text"
    encoding: str = ""  # of text
    delimiter: str = ""  # of csv
    sheets: list[str] = field(default_factory=list)  # of a workbook; the one that is read: `sheet`
    sheet: str = ""
    damaged: list[tuple[int, str]] = field(default_factory=list)  # among the rows looked at


def preview_file(
    file: Path | Sequence[Path],
    count: int = 25,
    *,
    options: ReadOptions = DEFAULT,
) -> Preview:
    """Read the first `count` rows; UserError if already these cannot be read.

    With an encoding that the user chose, the rows shown are those whose letters depend on it.
    """
    reader = open_rows(file, options=options)
    rows = iter(reader)
    first = list(islice(rows, count))
    telling = _telling(chain(first, rows), count) if options.encoding else []
    shown = [
        (number, {column: cell_text(cell) for column, cell in row.items()})
        for number, row in telling or first
    ]
    opened = reader.files[0]
    return Preview(
        shown,
        detect_format([row for _, row in first]),
        reader.notes,
        kind=opened.kind,
        encoding=opened.encoding,
        delimiter=opened.layout[:1] if opened.kind == "csv" else "",
        sheets=opened.sheets,
        sheet=opened.layout if opened.kind == "xlsx" else "",
        damaged=reader.damaged,
    )


def _telling(rows: Iterable[tuple[int, dict]], count: int) -> list[tuple[int, dict]]:
    """The first rows with letters beyond ASCII among those that can be looked at in a moment."""
    looked_at = islice(rows, MOMENT)
    return list(islice((one for one in looked_at if not _is_plain(one[1])), count))


def _is_plain(row: dict) -> bool:
    return all(cell_text(cell).isascii() for cell in row.values())
