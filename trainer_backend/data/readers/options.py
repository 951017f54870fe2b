"""What the user can choose for reading (file types, encodings, delimiters), and damaged rows.

Shared by all readers; nothing is read here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from trainer_backend.data.readers.encodings.names import ENCODINGS, known_encoding
from trainer_backend.errors import UserError

DOCUMENT_SUFFIXES = (".txt", ".md")
TABLE_SUFFIXES = (
    ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather", ".xlsx",
    ".ods",
)  # fmt: skip
SUFFIXES = (*TABLE_SUFFIXES, ".zip")  # of files that are data by their name, each also as .gz
UPLOAD_SUFFIXES = (*SUFFIXES, *DOCUMENT_SUFFIXES, ".gz")  # what an upload field takes
MAX_LINE = 16 * 1024 * 1024  # characters in one line, or in one record that spans lines
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
OFFERED = ("encoding", "header_row", "sheet", "skip_damaged")  # options that an error may offer
LEFT_OUT = "left out: line"
MAX_LISTED = 10_000  # damaged rows that are listed; all are counted


@dataclass(frozen=True)
class ReadOptions:
    """What the user chose for reading; None means: detect it."""

    encoding: str | None = None  # one of ENCODINGS, or another name of one
    delimiter: str | None = None  # of a csv file: one of DELIMITERS
    skip_damaged: bool = False  # leave out rows that cannot be read, and list them
    sheet: str | None = None  # of a workbook; None is the first
    header_row: int | None = None  # of a table: the row of the sheet or line with its column names
    max_rows: int | None = None  # read only the first rows

    def __post_init__(self) -> None:
        if self.encoding:
            object.__setattr__(self, "encoding", known_encoding(self.encoding) or self.encoding)

    def check(self, where: str) -> None:
        """Raise UserError for a value that is not among the choices."""
        if self.encoding is not None and known_encoding(self.encoding) is None:
            what = f"Unknown encoding “{self.encoding[:40]}”."
            raise UserError(what, where, f"Use one of {', '.join(ENCODINGS)}.")
        if self.delimiter is not None and self.delimiter not in DELIMITERS:
            what = f"Columns cannot be separated by “{self.delimiter[:10]}”."
            raise UserError(what, where, f"Use one of {', '.join(DELIMITERS.values())}.")
        if self.header_row is not None and self.header_row < 1:
            what = "The row with the column names must be 1 or more."
            raise UserError(what, where, "Give the number of a row in the file.")
        if self.max_rows is not None and self.max_rows < 1:
            raise UserError("A row limit must be 1 or more.", where, "Give a larger number.")


DEFAULT = ReadOptions()


def ways(offer: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Each way of reading that an error offers, as options of its own; the best one first."""
    return [{name: offer[name]} for name in OFFERED if offer and offer.get(name)]


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names in quotes, cut at 60 characters, and how many more there are."""
    shown = [f"“{name[:60]}”" for name in names]
    more = f" and {len(shown) - most:,} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


@dataclass
class DamageLog:
    """The damaged rows of a file: listed with `skip`, else the first one is an error."""

    skip: bool = False
    rows: list[tuple[int, str]] = field(default_factory=list)  # (line or row in its file, reason)
    count: int = 0
    prefix: str = ""  # the name of the file, if there are several
    notes: list[str] = field(default_factory=list)  # what a reader saw only while it read

    def report(self, line: int, error: UserError) -> None:
        """Count a row that is left out. Without `skip`, raises the error with the offer to skip."""
        if not self.skip:
            raise UserError(
                error.what,
                error.where,
                error.fix,
                code=error.code or "damaged",
                offer={**(error.offer or {}), "skip_damaged": True},
            )
        self.count += 1
        if len(self.rows) < MAX_LISTED:
            self.rows.append((line, f"{self.prefix}{error.what}"))

    def sentence(self) -> str:
        """A sentence on how many rows were left out, and their lines; "" if none was."""
        if not self.count:
            return ""
        lines = ", ".join(f"{line:,}" for line, _ in self.rows[:5])
        more = f" and {self.count - 5:,} more" if self.count > 5 else ""
        rows, place = ("row is", "") if self.count == 1 else ("rows are", "s")
        file = "its file" if self.prefix else "the file"
        return f"{self.count:,} damaged {rows} {LEFT_OUT}{place} {lines}{more} of {file}."
