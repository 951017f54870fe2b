"""Detects what a file holds from its first bytes; a name that does not fit is an error.

No rows are read here.
"""

import pickletools

from trainer_backend.data.readers.columnar.arrow_reader import MAGIC as ARROW_MAGIC
from trainer_backend.data.readers.columnar.arrow_reader import STREAM_MAGIC
from trainer_backend.data.readers.options import DOCUMENT_SUFFIXES, TABLE_SUFFIXES
from trainer_backend.data.readers.source import Source
from trainer_backend.data.readers.text_reader import detect_encoding
from trainer_backend.errors import UserError

ZIP_MAGIC = b"PK\x03\x04"
_ODS = b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet"
_ARROW_ENDINGS = (".arrow", ".feather")
_NOT_READ = (
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "Save it as .xlsx or as CSV UTF-8."),
    (b"FEA1", "an old Feather file (version 1)", "Save it as Parquet."),
    (b"%PDF", "a PDF", "Copy its text into a text file, a table or JSON Lines."),
    (b"BZh", "a bzip2 archive", "Unpack it first."),
    (b"\xfd7zXZ", "an xz archive", "Unpack it first."),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it first, or save it as .zip."),
    (b"Rar!", "a RAR archive", "Unpack it first, or save it as .zip."),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "Unpack it first."),
    (b"SQLite format 3", "a SQLite database", "Export the table as CSV."),
    (b"PARE", "an encrypted Parquet file", "Save it without encryption."),
)


def kind_of(source: Source) -> str:
    """One of csv, json, parquet, arrow, xlsx, text; xlsx for every workbook. Raises UserError."""
    ending = source.ending
    if ending not in TABLE_SUFFIXES + DOCUMENT_SUFFIXES:
        raise _unknown_ending(source, ending)
    head = source.head()
    if not head.strip(b" \t\r\n\xef\xbb\xbf\xff\xfe\0"):
        fix = "Upload a file with at least one row."
        raise UserError("The file is empty.", source.name, fix)
    found = _by_magic(source, head)
    if found:
        kind, what, endings = found
        if ending not in endings:
            raise _misnamed(source, what, " or ".join(endings))
        return kind
    return _text_kind(source, head, ending)


def _by_magic(source: Source, head: bytes) -> tuple[str, str, tuple[str, ...]] | None:
    """(kind, its name in a sentence, endings that fit) for binary content."""
    if head.startswith(b"PAR1"):
        return "parquet", "Parquet", (".parquet",)
    if head.startswith(ARROW_MAGIC) or head.startswith(STREAM_MAGIC):
        return "arrow", "Arrow data", _ARROW_ENDINGS
    if head.startswith(ZIP_MAGIC):
        if _ODS in head:
            return "xlsx", "an OpenDocument spreadsheet", (".ods",)
        if source.ending == ".xlsx" or _is_workbook(head):
            return "xlsx", "a spreadsheet", (".xlsx",)
        if source.ending == ".ods":
            return "xlsx", "an OpenDocument spreadsheet", (".ods",)
        return "zip", "a zip archive", (".zip",)
    for magic, what, fix in _NOT_READ:
        if head.startswith(magic):
            raise UserError(f"The file holds {what}, which cannot be read.", source.name, fix)
    if _is_pickle(head):
        raise UserError(
            "The file is a Python pickle, which can run code when opened.",
            source.name,
            "Save the data as JSON Lines or Parquet.",
        )
    return None


def _is_workbook(head: bytes) -> bool:
    return any(mark in head for mark in (b"[Content_Types].xml", b"xl/", b"_rels/.rels"))


def _is_pickle(head: bytes) -> bool:
    if not (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05"):
        return False
    try:
        return next(pickletools.genops(head))[0].name == "PROTO"
    except ValueError:
        return False


def _text_kind(source: Source, head: bytes, ending: str) -> str:
    binary = {
        ".parquet": "a Parquet",
        ".xlsx": "an Excel",
        ".ods": "an OpenDocument",
        **dict.fromkeys(_ARROW_ENDINGS, "an Arrow"),
    }
    if ending in binary:
        raise UserError(
            f"This is not {binary[ending]} file, although its name ends with “{ending}”.",
            source.name,
            "Give the file the ending of what it holds, or export it again.",
        )
    start = head.decode(detect_encoding(head), "ignore").lstrip("\ufeff \t\r\n")
    looks_json = start.startswith(('{"', "[{", "{\n", "[\n", "[\r"))
    if ending in (".csv", ".tsv"):
        if looks_json:
            raise _misnamed(source, "JSON", ".json or .jsonl")
        return "csv"
    if ending in DOCUMENT_SUFFIXES:
        return "json" if start.startswith(('{"', "[{")) else "text"
    if start[:1] not in ("{", "[", '"'):
        what = f"This is not JSON: it begins with “{(start[:20].splitlines() or [''])[0]}”."
        fix = "Rename it to .csv if it is a table, or export it as JSON."
        raise UserError(what, f"{source.name}, line 1, column 1", fix)
    return "json"


def _misnamed(source: Source, found: str, endings: str) -> UserError:
    shown = source.file_name.lower().removesuffix(".gz").rpartition(".")[2]
    return UserError(
        f"The file holds {found}, but its name ends with “.{shown}”.",
        source.name,
        f"Rename it to end with {endings} and upload it again.",
    )


def _unknown_ending(source: Source, ending: str) -> UserError:
    what = f"Files ending in “{ending}” cannot be read." if ending else "The name has no ending."
    known = ", ".join((*TABLE_SUFFIXES, *DOCUMENT_SUFFIXES))
    fix = f"Use one of {known}, each also as .gz or in a .zip."
    if ending in (".xls", ".numbers"):
        fix = "In the spreadsheet choose “Save as” and “.xlsx” or “CSV UTF-8”."
    return UserError(what, source.name, fix)
