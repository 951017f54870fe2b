"""Checkpoints that can be trusted: committed by a manifest written last, rotated after that.

What is inside a checkpoint is the trainer's business; here they are folders of files.
"""

import hashlib
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from .home import read_json, write_json

MANIFEST = "MANIFEST.json"


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint: the step it was taken at, its folder, its evaluation loss."""

    step: int
    path: Path
    eval_loss: float | None = None


def commit(path: Path, step: int, eval_loss: float | None = None) -> Checkpoint:
    """Make a saved folder count: flush every file, then write the manifest of sizes and sha256."""
    files = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name != MANIFEST):
        with open(file, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            os.fsync(stream.fileno())
        files[str(file.relative_to(path))] = {"size": file.stat().st_size, "sha256": digest}
    write_json(path / MANIFEST, {"step": step, "eval_loss": eval_loss, "files": files})
    _sync_folder(path)
    return Checkpoint(step, path, eval_loss)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def committed(folder: Path) -> list[Checkpoint]:
    """Checkpoints with a manifest whose files are all there in full size, oldest first."""
    found = []
    for path in folder.glob("checkpoint-*"):
        manifest = _manifest(path)
        if manifest and all(
            _same_size(path / name, facts) for name, facts in manifest["files"].items()
        ):
            found.append(Checkpoint(manifest["step"], path, manifest.get("eval_loss")))
    return sorted(found, key=lambda one: one.step)


def _manifest(path: Path) -> dict | None:
    try:
        return read_json(path / MANIFEST)
    except (json.JSONDecodeError, OSError):
        return None


def _same_size(file: Path, facts: dict) -> bool:
    return file.is_file() and file.stat().st_size == facts["size"]


def is_intact(checkpoint: Checkpoint) -> bool:
    """Whether every file still has the sha256 it was committed with (reads all of it)."""
    for name, facts in _manifest(checkpoint.path)["files"].items():
        with open(checkpoint.path / name, "rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != facts["sha256"]:
                return False
    return True


def newest_intact(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that can be resumed from, and the names of damaged ones set aside."""
    set_aside = []
    good = {one.path for one in committed(folder)}
    for path in sorted(folder.glob("checkpoint-*"), key=_step_in_name, reverse=True):
        checkpoint = next((one for one in committed(folder) if one.path == path), None)
        if path in good and is_intact(checkpoint):
            return checkpoint, set_aside
        path.rename(path.with_name(f"damaged-{path.name}-{uuid.uuid4().hex[:6]}"))
        set_aside.append(path.name)
    return None, set_aside


def _step_in_name(path: Path) -> int:
    digits = path.name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


def rotate(folder: Path, keep: int = 2) -> None:
    """Delete old checkpoints; the newest `keep` and the one with the lowest eval loss stay."""
    everything = committed(folder)
    scored = [one for one in everything if one.eval_loss is not None]
    best = min(scored, key=lambda one: one.eval_loss) if scored else None
    for old in everything[:-keep]:
        if old != best:
            trash = old.path.with_name(f".trash-{uuid.uuid4().hex[:8]}")
            old.path.rename(trash)
            shutil.rmtree(trash)
