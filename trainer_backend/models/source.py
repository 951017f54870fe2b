"""Where a base model comes from: a folder, the starter model, or the Hub.

Torch-free; nothing is loaded into memory here.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub as hub
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import filter_repo_objects

from trainer_backend.downloads import (
    ASK_S,
    Gauge,
    HubFiles,
    NoBar,
    Progress,
    fetch_hub_files,
    silent,
    watched,
)
from trainer_backend.errors import UserError
from trainer_backend.models.hub_errors import hub_failure, hub_not_reached
from trainer_backend.recipe import STARTER_MODEL, label

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
REVISION = re.compile(r"[0-9a-f]{40}")
MODEL_TYPE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
FOLDER_WORDS = "Choose a model from the list, a Hub id like “owner/name”, or a folder."


@dataclass(frozen=True)
class ModelSource:
    """`kind` is "folder", "starter" or "hub"; `folder` is None until the files are downloaded."""

    kind: str
    base_model: str
    folder: Path | None


def locate_model(home: Path, base_model: str) -> ModelSource:
    """Find where a model comes from, without network access.

    `base_model` is a folder, a Hub id or the starter's name. Raises UserError when it is none of
    these, or the folder is not a safe, complete model.
    """
    name = base_model.strip()
    starter = home / "models" / "SmolLM2-135M-Instruct"
    if name == STARTER_MODEL:
        return ModelSource("starter", name, starter if (starter / "config.json").exists() else None)
    if name and (folder := _existing(name)):
        check_folder(folder)
        return ModelSource("folder", name, folder.resolve())
    if not HUB_ID.fullmatch(name) or name.count("/") != 1 or ".." in name:
        raise UserError(
            "There is no such model.", f"{label('base_model')} “{name[:80]}”", FOLDER_WORDS
        )
    return ModelSource("hub", name, None)


def hub_id(base_model: str) -> str | None:
    """The Hub id of a base model; None for a folder, or for a model that was built in code."""
    return base_model if HUB_ID.fullmatch(base_model) and not _existing(base_model) else None


def _existing(name: str) -> Path | None:
    try:
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # too long, invalid, or ~ of an unknown user
        return None


def check_folder(folder: Path) -> None:
    """Raise UserError, naming the file, for a folder that is not a safe, complete model."""
    config = _config(folder)
    if not MODEL_TYPE.fullmatch(str(config.get("model_type", ""))):
        raise UserError(
            "This folder's config.json has no model type.",
            str(folder / "config.json"),
            "Choose a folder saved by transformers.",
        )
    if "auto_map" in config:
        raise UserError(
            "This model needs its own code, which is never run here.",
            str(folder / "config.json"),
            "Choose a model that transformers supports without extra code.",
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        others = sorted(p.name for s in ("*.bin", "*.pt", "*.pth") for p in folder.glob(s))
        what = f"The folder holds only {others[0]}" if others else "The folder holds no weights"
        raise UserError(
            f"{what}; weights must be in .safetensors files.",
            str(folder),
            "Save the model with save_pretrained (safetensors) and choose that folder.",
        )
    _check_index(folder)


def _config(folder: Path) -> dict:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("not an object")
        return config
    except FileNotFoundError:
        fix = "Choose a folder that has config.json, tokenizer.json and .safetensors files."
        if (folder / "adapter_config.json").exists():
            fix = (
                "This is an adapter. Choose its base model here and open the adapter's run to chat."
            )
        raise UserError("This folder holds no model.", str(folder), fix) from None
    except (OSError, ValueError) as error:
        raise UserError(
            "The model's config.json cannot be read.",
            str(folder),
            f"Copy the model again: {error}.",
        ) from error


def _check_index(folder: Path) -> None:
    """Raise UserError when the weight index names a file outside the folder, or a missing one."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(
            "The index of the weight files is damaged.", str(index), "Copy the model again."
        ) from error
    for name in names:
        path = folder / str(name)
        if Path(str(name)).name != name or not path.is_file():
            raise UserError(
                f"The weight file “{str(name)[:80]}” is not in the folder.",
                str(index),
                "Copy the model again, with all its files.",
            )


TOKENIZER_FILES = ("*.json", "*.jinja", "tokenizer*", "*.model", "*.txt")
# one of these is in every folder that a tokenizer can be read from
TOKENIZER_MARKS = ("tokenizer.json", "tokenizer_config.json", "*.model", "vocab.*")


def download_from_hub(
    base_model: str,
    *,
    weights: bool = True,
    revision: str | None = None,
    progress: Progress = silent,
) -> Path:
    """Download a model into the Hub cache: tokenizer and config, and unless disabled its weights.

    An interrupted download is continued. Raises UserError when the Hub cannot be reached, the
    model is unknown or gated, or the disk has no room; and what `progress` raises, to stop it.
    """
    patterns = [*TOKENIZER_FILES, *(["*.safetensors"] if weights else [])]
    wanted: dict[str, Any] = {"allow_patterns": patterns, "revision": revision}
    if here := _in_cache(base_model, wanted, weights):
        return here
    gauge = Gauge(
        f"Downloading {base_model}" if weights else f"Fetching the tokenizer of {base_model}"
    )
    try:
        return watched(gauge, lambda: _fetch(base_model, wanted, gauge), progress)
    except (hub_errors.HTTPError, hub_errors.EntryNotFoundError, OSError) as error:
        where = f"{label('base_model')} “{base_model}”"
        raise hub_failure(error, where) or hub_not_reached(where) from error


def _fetch(base_model: str, wanted: dict[str, Any], gauge: Gauge) -> Path:
    """The bytes first; then the Hub's client finds them and builds the folder of the commit."""
    info = hub.HfApi().model_info(base_model, revision=wanted["revision"], timeout=ASK_S)
    names = [one.rfilename for one in info.siblings or []]
    chosen = tuple(filter_repo_objects(names, allow_patterns=wanted["allow_patterns"]))
    if info.sha:
        fetch_hub_files(HubFiles(base_model, info.sha, chosen), gauge)
    gauge.check()
    folder = hub.snapshot_download(base_model, etag_timeout=ASK_S, tqdm_class=NoBar, **wanted)
    return Path(folder)


def hub_revision(folder: Path) -> str | None:
    """The Hub commit (40 hex digits) of a folder in the Hub cache; None for any other folder."""
    is_snapshot = folder.parent.name == "snapshots" and REVISION.fullmatch(folder.name)
    return folder.name if is_snapshot else None


def _in_cache(base_model: str, wanted: dict[str, Any], weights: bool) -> Path | None:
    """The folder of an earlier download, if it is complete."""
    try:
        folder = Path(hub.snapshot_download(base_model, local_files_only=True, **wanted))
        if weights:
            check_folder(folder)
        if not any(next(folder.glob(mark), None) for mark in TOKENIZER_MARKS):
            return None
    except (hub_errors.LocalEntryNotFoundError, UserError):
        return None  # nothing, or a tokenizer without its weights
    return folder
