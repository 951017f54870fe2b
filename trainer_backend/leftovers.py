"""What a process that was killed left behind: removed once it is so old that nobody works on it.

Which names are left behind is known where they are made.
"""

import shutil
import time
from pathlib import Path

OLD_S = 24 * 3600  # uploads are kept as long


def remove_old(folder: Path, *patterns: str) -> None:
    """Remove the files and folders of these names that nobody touched for a day."""
    for left in [path for pattern in patterns for path in folder.glob(pattern)]:
        try:
            old = time.time() - left.stat().st_mtime > OLD_S
        except FileNotFoundError:
            continue  # somebody else finished or removed it in this moment
        if old:
            remove(left)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, as far as that is possible."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
