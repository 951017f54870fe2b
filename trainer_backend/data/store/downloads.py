"""Writes a stored dataset to a file: JSON Lines, Parquet or CSV.

Values are written as they are, except for cells that a spreadsheet would run (CSV only).
"""

import csv
import errno
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainer_backend.data.images import named
from trainer_backend.data.json_values import cell_text, to_json
from trainer_backend.data.store import pages
from trainer_backend.data.store.dataset import StoredDataset, open_dataset
from trainer_backend.errors import UserError

FORMATS = ("jsonl", "parquet", "csv")
CSV_NOTE = (
    "Cells that a spreadsheet would run as a formula (beginning with =, +, -, @, a tab or a line"
    " break) have a ' put before them in this file. The training text is unchanged."
)
BATCH = 1_000
_FORMULA = re.compile(r"[\s\u00a0\ufeff]*[=+\-@]|[\t\r\n]")
_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?")


def download_dataset(
    home: Path, dataset_id: str, format: str = "jsonl", *, neutralise: bool = True
) -> Path:
    """Write all rows to a file under home/exports, unless it is there already; returns its path.

    JSON Lines read back exactly; Parquet gives the same examples (columns of mixed types become
    JSON text). CSV cells that a spreadsheet would run get a ' unless `neutralise` is off. A dataset
    with images becomes a zip of rows and images. Raises UserError for an unknown format or a full
    disk.
    """
    dataset = open_dataset(home, dataset_id)
    if format not in FORMATS:
        what = f"A dataset cannot be saved as “{str(format)[:40]}”."
        raise UserError(what, dataset.name, f"Use one of {', '.join(FORMATS)}.")
    folder = download_folder(home, dataset.id)
    ending = "plain.csv" if format == "csv" and not neutralise else format
    path = folder / file_name(dataset, ending)
    if not path.is_file():  # a dataset never changes
        _write_rows(dataset.dir / "rows.parquet", path, neutralise)
    images = dataset.dir / "images"
    if not images.is_dir():
        return path
    packed = path.with_name(f"{path.name.replace('.', '-')}.zip")
    if not packed.is_file():
        _save(packed, lambda part: _pack(path, images, part))
    return packed


def _write_rows(rows: Path, path: Path, neutralise: bool) -> None:
    if (rows.parent / "images").is_dir():
        save_rows(lambda: (named(row) for _, row in pages.iter_rows(rows)), path, neutralise)
    elif path.suffix == ".jsonl":
        cells = (text for _, text in pages.iter_cells(rows))
        _save(path, lambda part: _write_lines(cells, part))
    else:
        save_rows(lambda: (row for _, row in pages.iter_rows(rows)), path, neutralise)


def _pack(rows: Path, images: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as out:
        out.write(rows, rows.name, zipfile.ZIP_DEFLATED)
        for image in sorted(images.iterdir()):
            out.write(image, f"images/{image.name}")


def download_folder(home: Path, dataset_id: str) -> Path:
    """The folder of a dataset's downloads."""
    return home / "exports" / f"data-{dataset_id}"


def file_name(dataset: StoredDataset, format: str) -> str:
    """A file name from the dataset's name: letters, digits and dashes, never a path."""
    stem = Path(dataset.name).stem if dataset.name.count(".") else dataset.name
    plain = re.sub(r"[^A-Za-z0-9]+", "-", stem).strip("-").lower()[:40] or "rows"
    version = f"-v{dataset.version}" if dataset.version > 1 else ""
    return f"data-{plain}{version}.{format}"


def save_rows(rows: Callable[[], Iterator[dict]], path: Path, neutralise: bool = True) -> Path:
    """Write rows in the format of the path's suffix, atomically; `rows()` may be called again."""
    if path.suffix == ".jsonl":
        return _save(path, lambda part: _write_lines(map(to_json, rows()), part))
    if path.suffix == ".parquet":
        return _save(path, lambda part: _write_parquet(rows, part))
    return _save(path, lambda part: _write_csv(rows, part, neutralise))


def _save(path: Path, write: Callable[[Path], None]) -> Path:
    def write_readable(part: Path) -> None:
        write(part)
        os.chmod(part, 0o644)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pages.replace_file(path, write_readable)
    except OSError as error:
        raise UserError(
            f"The file could not be written: {error.strerror or error}.",
            str(path.name),
            "Free some space or check the folder's permissions, then try again.",
            code="disk_full" if error.errno == errno.ENOSPC else "",
        ) from None
    return path


def _write_lines(lines: Iterable[str], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(f"{line}\n" for line in lines)


def _columns(rows: Iterable[dict]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _write_csv(rows: Callable[[], Iterator[dict]], path: Path, neutralise: bool) -> None:
    safe = safe_cell if neutralise else str
    columns = _columns(rows())
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow([safe(name) for name in columns])
        for row in rows():
            writer.writerow([safe(cell_text(row.get(name))) for name in columns])


def safe_cell(text: str) -> str:
    """The text, with a ' before it if a spreadsheet would run it (OWASP: CSV injection)."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _write_parquet(rows: Callable[[], Iterator[dict]], path: Path) -> None:
    schema = pa.schema(_types(rows()))
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(rows()):
            arrays = [
                pa.array([_cell(row.get(one.name), one.type) for row in batch], one.type)
                for one in schema
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _batches(rows: Iterator[dict]) -> Iterator[list[dict]]:
    while batch := list(islice(rows, BATCH)):
        yield batch


def _types(rows: Iterator[dict]) -> list[tuple[str, pa.DataType]]:
    """(column, type): the type that keeps every value exactly, or string for JSON text."""
    types: dict[str, pa.DataType] = {}
    for batch in _batches(rows):
        for name in _columns(batch):
            cells = [row.get(name) for row in batch]
            types[name] = _common(types.get(name, pa.null()), cells)
    return [(name, pa.string() if type == pa.null() else type) for name, type in types.items()]


def _common(before: pa.DataType, cells: list) -> pa.DataType:
    if before == pa.string():
        return before
    if before == pa.null() and all(cell is None or isinstance(cell, str) for cell in cells):
        return before if all(cell is None for cell in cells) else pa.string()
    try:
        found = pa.array(cells).type
        same = before == pa.null() or found in (before, pa.null())
        kept = before if found == pa.null() else found
        exact = same and to_json(pa.array(cells, kept).to_pylist()) == to_json(cells)
    except (pa.ArrowException, TypeError, OverflowError):
        return pa.string()
    return kept if exact else pa.string()


def _cell(value: Any, type: pa.DataType) -> Any:
    return cell_text(value) if type == pa.string() and value is not None else value
