"""The home folder: where datasets, runs, models and exports live.

What is inside them is not known here.
"""

import json
import os
import shutil
import time
import uuid
from pathlib import Path

from trainer_backend.errors import UserError

FOLDERS = ("datasets", "runs", "models", "exports", "tmp")


def open_home(path: str | Path | None = None) -> Path:
    """Return the home folder, made if needed: `path`, else SFT_STUDIO_HOME, else ./workspace.

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
    """Replace a file so that a reader or a crash sees the old text or the new one, never a part."""
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
    """Write strict JSON atomically (NaN is refused: other readers could not parse it)."""
    write_atomic(path, json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False))


def read_json(path: Path, default: object = None) -> object:
    """Read JSON; the default when the file is not there.

    With a default, a file that is damaged or of another kind counts as not there: {} and [] are
    for what can be done without. Without one it raises ValueError.
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


def _load(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def new_id(prefix: str) -> str:
    """An id of ours: never made of user text, safe as a folder name and in a web address."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def check_id(value: str, kind: str) -> str:
    """Refuse anything that is not an id of ours before it becomes part of a path."""
    text = str(value or "")
    if (
        not text
        or len(text) > 64
        or not all(c.isascii() and (c.isalnum() or c in "-_") for c in text)
    ):
        raise UserError(
            f"There is no such {kind}.",
            f"{kind} id {text[:40]!r}",
            f"Choose a {kind} from the list.",
        )
    return text


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
