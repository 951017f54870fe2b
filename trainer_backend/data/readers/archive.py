"""Zip archives of data files: which entries are read, and why an archive is refused.

Entries are streamed and never written to disk under their names. Rows are not read here.
"""

import re
import stat
import struct
import unicodedata
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from trainer_backend.data.images import IMAGE_SUFFIXES, MAX_IMAGE, ImageBytes, to_image
from trainer_backend.data.readers.options import DOCUMENT_SUFFIXES, TABLE_SUFFIXES
from trainer_backend.data.readers.source import BROKEN, Source
from trainer_backend.errors import UserError

MAX_ENTRIES = 20_000
MAX_NAME = 1_000  # characters
_NOT_DATA = re.compile(r"(?i)(readme|licen[cs]e|dataset_infos|dataset_info|\.)[\w.-]*$")
_NESTED = (".zip", ".tar", ".tgz", ".7z", ".rar", ".xz", ".bz2", ".zst", ".tar.gz")
_ENCRYPTED = 0x61  # flag bits: encrypted, patched, strongly encrypted
_END, _END64 = b"PK\x05\x06", b"PK\x06\x06"  # end of central directory, plain and zip64


class Archive:
    """An open zip archive whose entries have all been checked: its data files and its images.

    Raises UserError if it is damaged, unsafe or has no data file.
    """

    def __init__(self, path: Path):
        self.path = path
        _check_directory(path)
        try:
            self.zip = zipfile.ZipFile(path)
        except (*BROKEN, ValueError, NotImplementedError) as error:
            what = f"The zip archive cannot be read: {str(error)[:80].rstrip('.')}."
            fix = "It is damaged or cut off. Pack it again."
            raise UserError(what, path.name, fix) from None
        entries = self.zip.infolist()
        check_entries(path, entries)
        files = [one for one in entries if not one.is_dir() and not _is_hidden(one.filename)]
        self.images = {
            one.filename: one
            for one in files
            if one.filename.lower().endswith(IMAGE_SUFFIXES) and one.file_size <= MAX_IMAGE
        }
        chosen = _data_entries(files)
        self.sources = [Source(path, self.zip, one) for one in chosen]
        unused = len(files) - len(chosen) - len(self.images)
        self.notes: list[str] = []
        if len(chosen) > 1:
            self.notes.append(f"{len(chosen)} data files of the archive are read as one.")
        if unused:
            self.notes.append(f"{unused:,} other files in the archive are not used.")
        if not chosen:
            raise UserError(
                "The zip archive holds no data file.",
                path.name,
                f"Pack files ending in {', '.join(TABLE_SUFFIXES)} into it.",
            )

    def with_images(self, row: dict, source: Source) -> dict:
        """The row with each file name of an image in the archive replaced by the image."""
        if not self.images:
            return row
        folder = PurePosixPath(source.file_name).parent
        return {name: self._replaced(cell, folder, 0) for name, cell in row.items()}

    def _replaced(self, value: Any, folder: PurePosixPath, depth: int) -> Any:
        if isinstance(value, str):
            return self._image(value, folder) or value
        if depth < 8 and isinstance(value, list):
            return [self._replaced(item, folder, depth + 1) for item in value]
        if depth < 8 and isinstance(value, dict):
            return {key: self._replaced(item, folder, depth + 1) for key, item in value.items()}
        return value

    def _image(self, text: str, folder: PurePosixPath) -> ImageBytes | None:
        if len(text) > MAX_NAME or not text.lower().endswith(IMAGE_SUFFIXES):
            return None
        entry = self.images.get(str(folder / text)) or self.images.get(text.removeprefix("./"))
        if entry is None:
            return None
        source = Source(self.path, self.zip, entry)
        with source.open() as stream:
            return to_image(source.read(stream, MAX_IMAGE + 1), text)


def _check_directory(path: Path) -> None:
    """Refuse too many entries before zipfile loads them, from the end record alone.

    Its layout: PKWARE's APPNOTE.TXT, 4.3.14 and 4.3.16.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65_557))
        tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + 22:
        return  # not a zip archive; opening it raises the error
    count, size = struct.unpack("<HI", tail[at + 10 : at + 16])
    at64 = tail.rfind(_END64)
    if at64 >= 0 and len(tail) >= at64 + 48:
        count64, size64 = struct.unpack("<QQ", tail[at64 + 32 : at64 + 48])
        count, size = max(count, count64), max(size if size < 2**32 - 1 else 0, size64)
    if count > MAX_ENTRIES or size > MAX_ENTRIES * 400:
        raise _too_many(path, count)


def _too_many(path: Path, count: int) -> UserError:
    return UserError(
        f"The zip archive has {count:,} entries; at most {MAX_ENTRIES:,} are read.",
        path.name,
        "Put the rows into a few larger files, and the images into a Parquet file.",
    )


def check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Raise UserError for links, unsafe or repeated names, encryption, and zip bombs."""
    if len(entries) > MAX_ENTRIES:
        raise _too_many(path, len(entries))
    seen: dict[str, str] = {}
    for entry in entries:
        name = entry.orig_filename
        fault = _fault(entry, name)
        same = unicodedata.normalize("NFC", name).casefold().rstrip("/")
        if not fault and same in seen:
            fault = "is in the archive twice"
            if seen[same] != name:
                fault = f"has a name that some systems confuse with “{_shown(seen[same])}”"
        if fault:
            what = f"The entry “{_shown(name)}” {fault}."
            fix = "Pack the archive again from plain files with simple names."
            raise UserError(what, f"{path.name}, entry “{_shown(name)}”", fix)
        seen[same] = name
    _check_size(path, entries)


def _fault(entry: zipfile.ZipInfo, name: str) -> str:
    """Why an entry is refused; "" if it is not."""
    mode = stat.S_IFMT(entry.external_attr >> 16)
    kinds = {stat.S_IFLNK: "is a link to another file", stat.S_IFDIR: "", stat.S_IFREG: "", 0: ""}
    parts = name.split("/")
    checks = (
        (not name or len(name) > MAX_NAME, "has no usable name"),
        (any(ord(letter) < 32 or letter == "\x7f" for letter in name), "has an unprintable name"),
        ("\\" in name, "has a backslash in its name"),
        (name.startswith("/") or re.match(r"[A-Za-z]:", name), "has an absolute path"),
        (".." in parts, "leads out of the archive (..)"),
        (mode not in kinds, "is a device or another special file"),
        (kinds.get(mode), kinds.get(mode, "")),
        (entry.flag_bits & _ENCRYPTED, "is encrypted"),
        (
            entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
            "uses an unsupported compression method",
        ),
        (
            name.lower().endswith(_NESTED) and not _is_hidden(name),
            "is an archive inside the archive",
        ),
    )
    return next((fault for wrong, fault in checks if wrong), "")


def _check_size(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    budget, total = Source(path).budget(), 0
    for entry in entries:
        total += entry.file_size
        own = Source(path, None, entry).budget()
        if total > budget or entry.file_size > own:
            what = f"The archive unpacks to more than {min(budget, own) // 2**20:,} MB."
            fix = "Archives that grow this much are refused. Upload the files without packing them."
            raise UserError(what, f"{path.name}, entry “{_shown(entry.filename)}”", fix)


def _is_hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts)


def _data_entries(files: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The tables in the order of their names; documents only if there are no tables."""
    for endings in (TABLE_SUFFIXES, DOCUMENT_SUFFIXES):
        found = [
            one
            for one in files
            if one.filename.lower().removesuffix(".gz").endswith(endings)
            and not _NOT_DATA.match(PurePosixPath(one.filename).name)
        ]
        if found:
            return sorted(found, key=lambda one: one.filename)
    return []


def _shown(name: str) -> str:
    """At most 80 characters of a name, the unprintable ones replaced."""
    plain = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    return plain if len(plain) <= 80 else f"{plain[:80]}…"
