"""The first rows of a file as text, before the whole file is read.

Nothing is stored or checked here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from trainer_backend.data.json_values import cell_text
from trainer_backend.data.readers import open_rows
from trainer_backend.data.readers.options import DEFAULT, ReadOptions

MOMENT = 100_000  # rows that are read within about a second


@dataclass(frozen=True)
class Preview:
    """The first rows as (number, {column: text}), and what the (first) file is."""

    rows: list[tuple[int, dict[str, str]]]
    kind: str  # "csv", "json", "parquet", "arrow", "xlsx" or "text"
    sheets: list[str]  # of a workbook


def preview_file(
    file: Path | Sequence[Path], count: int = 25, *, options: ReadOptions = DEFAULT
) -> Preview:
    """Read the first `count` rows. Raises UserError if these cannot be read.

    With an encoding that the user chose, the rows are the first ones that are not plain ASCII.
    """
    reader = open_rows(file, options=options)
    rows = iter(reader)
    first = list(islice(rows, count))
    chosen = _not_ascii(chain(first, rows), count) if options.encoding else []
    shown = [
        (number, {column: cell_text(cell) for column, cell in row.items()})
        for number, row in chosen or first
    ]
    return Preview(shown, reader.files[0].kind, reader.files[0].sheets)


def _not_ascii(rows: Iterable[tuple[int, dict]], count: int) -> list[tuple[int, dict]]:
    """The first rows with a character beyond ASCII, among those that can be read in a moment."""
    found = (
        (number, row)
        for number, row in islice(rows, MOMENT)
        if not all(cell_text(cell).isascii() for cell in row.values())
    )
    return list(islice(found, count))
