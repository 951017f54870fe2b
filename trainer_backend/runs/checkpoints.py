"""Checkpoints that can be trusted: committed by a manifest written last, rotated after that.

What is inside a checkpoint is the trainer's business; here they are folders of files.
"""

import hashlib
import math
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from trainer_backend.home import read_json, write_json

MANIFEST = "MANIFEST.json"


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint: the step it was taken at, its folder, its evaluation loss."""

    step: int
    path: Path
    eval_loss: float | None = None


def commit(
    path: Path, step: int, eval_loss: float | None = None, run: str | None = None
) -> Checkpoint:
    """Make a saved folder count: flush every file, then write the manifest of sizes and sha256.

    `run` is the id of the run it belongs to: put into another run's folder it does not count.
    """
    files = {}
    for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name != MANIFEST):
        with open(file, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            os.fsync(stream.fileno())
        files[str(file.relative_to(path))] = {"size": file.stat().st_size, "sha256": digest}
    if eval_loss is not None and not math.isfinite(eval_loss):
        eval_loss = None
    facts = {"step": step, "eval_loss": eval_loss, "run": run, "files": files}
    for folder in {file.parent for file in path.rglob("*") if file.is_file()}:
        _sync_folder(folder)
    write_json(path / MANIFEST, facts)
    _sync_folder(path)
    _sync_folder(path.parent)
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
        if manifest and _quick_damage(path, manifest) is None:
            found.append(Checkpoint(manifest["step"], path, manifest.get("eval_loss")))
    return sorted(found, key=lambda one: one.step)


def _manifest(path: Path) -> dict | None:
    try:
        manifest = read_json(path / MANIFEST)
        return manifest if isinstance(manifest["files"], dict) else None
    except (ValueError, OSError, TypeError, KeyError):
        return None


def _quick_damage(path: Path, manifest: dict) -> str | None:
    """What is wrong as far as names and sizes show; a folder's name proves nothing."""
    if path.name != f"checkpoint-{manifest['step']}":
        return f"it was taken at step {manifest['step']}"
    if manifest.get("run") not in (None, path.parent.parent.name):
        return "it belongs to another run"
    for name, facts in manifest["files"].items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != facts["size"]:
            return f"{name} has {file.stat().st_size} bytes instead of {facts['size']}"
    return None


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, naming the file; None when it is whole (reads all of it)."""
    manifest = _manifest(path)
    if manifest is None:
        return "its saving was never completed"
    if wrong := _quick_damage(path, manifest):
        return wrong
    for name, facts in manifest["files"].items():
        try:
            with open(path / name, "rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        if digest != facts["sha256"]:
            return f"the content of {name} has changed"
    return None


@dataclass(frozen=True)
class Damaged:
    """A checkpoint that was set aside: its name and what is wrong with it."""

    name: str
    why: str


def newest_intact(folder: Path) -> tuple[Checkpoint | None, list[Damaged]]:
    """The newest checkpoint that can be resumed from, and the damaged ones set aside on the way."""
    set_aside = []
    for path in sorted(folder.glob("checkpoint-*"), key=_step_in_name, reverse=True):
        why = damage(path)
        if why is None:
            manifest = _manifest(path)
            return Checkpoint(manifest["step"], path, manifest.get("eval_loss")), set_aside
        path.rename(path.with_name(f"damaged-{path.name}-{uuid.uuid4().hex[:6]}"))
        set_aside.append(Damaged(path.name, why))
    return None, set_aside


def purge(folder: Path, keep_damaged: int = 2) -> None:
    """Delete what a crash left half deleted, and all but the last few that were set aside."""
    damaged = sorted(folder.glob("damaged-*"), key=lambda path: path.stat().st_mtime)
    for path in [*folder.glob(".trash-*"), *damaged[: max(0, len(damaged) - keep_damaged)]]:
        shutil.rmtree(path, ignore_errors=True)


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
