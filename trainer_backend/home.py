"""The home folder, and the ways its files are written, read and removed.

It knows the names of the folders in it, not what they hold.
"""

import json
import os
import re
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

from trainer_backend.errors import UserError

FOLDERS = ("datasets", "runs", "models", "exports", "tmp")


def open_home(path: str | Path | None = None) -> Path:
    """The home folder, created if needed: `path`, else SFT_STUDIO_HOME, else ./workspace.

    Raises UserError when it cannot be created, read or written.
    """
    home = Path(path or os.environ.get("SFT_STUDIO_HOME") or "workspace").expanduser().resolve()
    try:
        for name in FOLDERS:
            (home / name).mkdir(parents=True, exist_ok=True)
        os.listdir(home / "runs")
        probe = home / "tmp" / f".probe-{uuid.uuid4().hex}"
        probe.write_text("x")
        probe.unlink()
    except OSError as error:
        raise UserError(
            "The home folder cannot be used.",
            f"{home}: {error.strerror or error}",
            "Choose a folder you can write to with --home or SFT_STUDIO_HOME.",
        ) from error
    return home


def write_atomic(path: Path, text: str) -> None:
    """Replace a file: a reader, also after a crash, finds the old text or the new one, whole."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(part, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write strict JSON atomically. Raises ValueError for NaN, which is no JSON."""
    write_atomic(path, json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False))


def read_json(path: Path, default: Any = None) -> Any:
    """The JSON of a file; the default (None) if it does not exist.

    With a default, a damaged file and one of another type give the default too. Without one, a
    damaged file raises ValueError.
    """
    try:
        found = _load(path)
    except FileNotFoundError:
        return default
    except (ValueError, OSError):
        if default is None:
            raise
        return default
    return found if default is None or isinstance(found, type(default)) else default


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def new_id(prefix: str) -> str:
    """A random id such as run-0123456789ab, safe as a folder name and in a URL."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def check_id(value: str, kind: str) -> str:
    """An id that is safe as part of a path. Raises UserError for any other text."""
    text = str(value or "")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise UserError(
            f"There is no such {kind}.",
            f"{kind} id {text[:40]!r}",
            f"Choose a {kind} from the list.",
        )
    return text


OLD_S = 24 * 3600  # uploads are kept for a day too


def remove_old(folder: Path, *patterns: str) -> None:
    """Remove files and folders that match a pattern and have not changed for a day."""
    for left in [path for pattern in patterns for path in folder.glob(pattern)]:
        try:
            old = time.time() - left.stat().st_mtime > OLD_S
        except FileNotFoundError:
            continue  # another process has just finished or removed it
        if old:
            remove(left)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all it holds as far as possible."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
