"""Checkpoints: committed by a manifest of hashes that is written last, verified, rotated.

A checkpoint is a folder of files here; the meaning of the files is not known.
"""

import hashlib
import math
import os
import shutil
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer_backend.home import read_json, write_json

MANIFEST = "MANIFEST.json"


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint: its optimizer step, its folder, its evaluation loss."""

    step: int
    path: Path
    eval_loss: float | None = None


def commit(
    path: Path, step: int, eval_loss: float | None = None, run: str | None = None
) -> Checkpoint:
    """Commit a saved folder: flush every file, then write the manifest of sizes and sha256.

    `run` is the id of its run; in the folder of another run the checkpoint counts as damaged.
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
    with suppress(PermissionError):  # Windows does not open folders
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def committed(folder: Path) -> list[Checkpoint]:
    """Checkpoints whose files exist in the sizes of their manifest, oldest first."""
    found = []
    for path in folder.glob("checkpoint-*"):
        manifest = _manifest(path)
        if manifest and _quick_damage(path, manifest) is None:
            found.append(Checkpoint(manifest["step"], path, manifest.get("eval_loss")))
    return sorted(found, key=lambda one: one.step)


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        manifest: Any = read_json(path / MANIFEST)
        return manifest if isinstance(manifest["files"], dict) else None
    except (ValueError, OSError, TypeError, KeyError):
        return None


def _quick_damage(path: Path, manifest: dict[str, Any]) -> str | None:
    """Damage that names and sizes show; the manifest decides the step, not the folder's name."""
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
    """What is wrong with a checkpoint, naming the file; None if it is intact (reads all of it)."""
    manifest = _manifest(path)
    if manifest is None:
        return "saving it was never completed"
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
    """A damaged checkpoint that was set aside: its name and what is wrong with it."""

    name: str
    why: str


def newest_intact(folder: Path) -> tuple[Checkpoint | None, list[Damaged]]:
    """The newest intact checkpoint, and the newer damaged ones, which are renamed to damaged-*."""
    set_aside: list[Damaged] = []
    for path in sorted(folder.glob("checkpoint-*"), key=_step_in_name, reverse=True):
        why = damage(path)
        if why is None:
            manifest = _manifest(path)
            assert manifest is not None  # `damage` has read it
            return Checkpoint(manifest["step"], path, manifest.get("eval_loss")), set_aside
        path.rename(path.with_name(f"damaged-{path.name}-{uuid.uuid4().hex[:6]}"))
        set_aside.append(Damaged(path.name, why))
    return None, set_aside


def purge(folder: Path, keep_damaged: int = 2) -> None:
    """Delete checkpoints half deleted at a crash, and all but the last few damaged ones."""
    damaged = sorted(folder.glob("damaged-*"), key=lambda path: path.stat().st_mtime)
    for path in [*folder.glob(".trash-*"), *damaged[: max(0, len(damaged) - keep_damaged)]]:
        shutil.rmtree(path, ignore_errors=True)


def _step_in_name(path: Path) -> int:
    digits = path.name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


def rotate(folder: Path, keep: int = 2) -> None:
    """Delete old checkpoints but the newest `keep` and the one with the lowest evaluation loss."""
    everything = committed(folder)
    best = best_of(everything)
    for old in everything[:-keep]:
        if old != best:
            trash = old.path.with_name(f".trash-{uuid.uuid4().hex[:8]}")
            old.path.rename(trash)
            shutil.rmtree(trash)


def best_of(kept: Sequence[Checkpoint]) -> Checkpoint | None:
    """The checkpoint with the lowest evaluation loss; None if none was evaluated."""
    scored = [one for one in kept if one.eval_loss is not None]
    return min(scored, key=lambda one: one.eval_loss or 0.0, default=None)
