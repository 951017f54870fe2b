"""Checks and zips the files of an export, and removes unfinished ones.

What the files contain is not known here, except that weights are safetensors.
"""

import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from trainer_backend.errors import UserError
from trainer_backend.home import new_id, remove_old

UNFINISHED = (".export-*", ".zip-*")


def sweep(folder: Path) -> None:
    """Remove the unfinished exports in a folder that are older than a day."""
    remove_old(folder, *UNFINISHED)


def check_weights(folder: Path) -> None:
    """Open every file of weights as a loader would. Raises UserError with the first damaged one."""
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="numpy") as weights:
                whole = bool(weights.keys())
        except (SafetensorError, OSError):
            whole = False
        if not whole:
            raise _damaged(file.name)


def zip_folder(folder: Path) -> Path:
    """Zip an export into one file beside it, uncompressed (weights hardly shrink).

    It is renamed into place after its checksums were read back. Raises UserError if one is wrong.
    """
    archive = folder.with_name(f"{folder.parent.name}-{folder.name}.zip")
    sweep(folder.parent)
    part = archive.with_name(f".{new_id('zip')}")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as out:
            for file in sorted(p for p in folder.rglob("*") if p.is_file()):
                out.write(file, file.relative_to(folder))
        with zipfile.ZipFile(part) as written:
            if damaged := written.testzip():
                raise _damaged(damaged)
        part.replace(archive)
    finally:
        part.unlink(missing_ok=True)
    return archive


def _damaged(name: str) -> UserError:
    return UserError(
        f"The export was not written correctly: {name} is damaged.",
        "Export",
        "Check whether the disk is full or failing, then export again.",
        code="disk_full",
    )
