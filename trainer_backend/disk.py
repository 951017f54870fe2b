"""Free disk space, the size of a folder, and recognising that the disk is full."""

import errno
import shutil
from pathlib import Path

from trainer_backend.errors import UserError

GIB = 2**30
FULL = (errno.ENOSPC, errno.EDQUOT)
# messages of torch and safetensors when a write fails (neither raises OSError)
FULL_WORDS = ("no space left", "disk quota exceeded", "unexpected pos", "streamwriter failed")


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written on the disk of `folder`."""
    return shutil.disk_usage(folder).free


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder; files removed meanwhile do not count."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def in_words(num_bytes: int) -> str:
    """A size as the page shows it: “1.5 GB”, “20 MB”, “3 KB”."""
    if num_bytes >= GIB:
        return f"{num_bytes / GIB:.1f} GB"
    return f"{num_bytes / 2**20:.0f} MB" if num_bytes >= 2**20 else f"{num_bytes // 1024} KB"


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception, or one in its chain of causes, means that the disk is full."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in FULL:
            return True
        if any(words in str(seen).lower() for words in FULL_WORDS):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def for_people(error: UserError | OSError) -> UserError:
    """The error to show: `error` itself, or that the disk is full. Raises any other OSError."""
    if isinstance(error, UserError):
        return error
    if not is_disk_full(error):
        raise error
    return UserError(
        "The disk is full; nothing was changed.",
        "The disk of the home folder",
        "Delete old runs, exports or other files, then try again. Finished training is kept.",
        code="disk_full",
    )
