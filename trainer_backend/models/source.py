"""Where a base model comes from: a folder, the starter model, or the Hub.

Torch-free; loading is model.py.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub as hub
from huggingface_hub import errors as hub_errors

from trainer_backend.errors import UserError
from trainer_backend.models.hub_errors import hub_failure
from trainer_backend.recipe import STARTER_MODEL, label

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
REVISION = re.compile(r"[0-9a-f]{40}")
MODEL_TYPE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
FOLDER_WORDS = "Choose a model from the list, a Hub id like “owner/name”, or a folder."


@dataclass(frozen=True)
class ModelSource:
    """`kind` is "folder", "starter" or "hub"; `folder` is None when the files are not here yet."""

    kind: str
    base_model: str
    folder: Path | None


def locate_model(home: Path, base_model: str) -> ModelSource:
    """Say where a model will come from, without any network.

    Raises UserError for what cannot work.
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
    """A base model's id on the Hub; None for a folder, or for a model that was built in code."""
    return base_model if HUB_ID.fullmatch(base_model) and not _existing(base_model) else None


def _existing(name: str) -> Path | None:
    try:
        folder = Path(name).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # too long, no name of a file, nobody's home
        return None


def check_folder(folder: Path) -> None:
    """Refuse a folder that is not a safe, complete model. Raises UserError naming the file."""
    config = _config(folder)
    if not MODEL_TYPE.fullmatch(str(config.get("model_type", ""))):
        raise UserError(
            "This folder's config.json names no model type.",
            str(folder / "config.json"),
            "Choose a folder saved by transformers.",
        )
    if "auto_map" in config:
        raise UserError(
            "This model brings its own program code, which is never run here.",
            str(folder / "config.json"),
            "Choose a model that transformers knows without extra code.",
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        others = sorted(p.name for s in ("*.bin", "*.pt", "*.pth") for p in folder.glob(s))
        what = f"Only {others[0]} is there" if others else "No weights are there"
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
    """A sharded model may only name files in its own folder (no way out of it)."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(
            "The list of weight files is damaged.", str(index), "Copy the model again."
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


def download_from_hub(
    base_model: str, *, weights: bool = True, revision: str | None = None
) -> Path:
    """Fetch a model's files from the Hub into the usual Hub cache; tokenizer and config at least.

    Raises UserError: no network, unknown id, gated. Never runs code of the model.
    """
    patterns = [*TOKENIZER_FILES, *(["*.safetensors"] if weights else [])]
    wanted = {"allow_patterns": patterns, "revision": revision}
    if here := _in_cache(base_model, wanted, weights):
        return here
    try:
        hub.HfApi().model_info(base_model, revision=revision, timeout=5)
        return Path(hub.snapshot_download(base_model, etag_timeout=5, **wanted))
    except (hub_errors.HTTPError, hub_errors.EntryNotFoundError, OSError) as error:
        raise _refusal(error, base_model) from error


def _refusal(error: Exception, base_model: str) -> UserError:
    where = f"{label('base_model')} “{base_model}”"
    return hub_failure(error, where) or offline_error(where)


def hub_revision(folder: Path) -> str | None:
    """The commit of the Hub a model folder holds; None for a folder of another kind."""
    is_snapshot = folder.parent.name == "snapshots" and REVISION.fullmatch(folder.name)
    return folder.name if is_snapshot else None


def _in_cache(base_model: str, wanted: dict, weights: bool) -> Path | None:
    """The folder of an earlier download, if what is wanted is in it."""
    try:
        folder = Path(hub.snapshot_download(base_model, local_files_only=True, **wanted))
        if weights:
            check_folder(folder)
    except (hub_errors.LocalEntryNotFoundError, UserError):
        return None  # nothing yet, or a tokenizer without its weights: ask the Hub
    return folder


def offline_error(where: str) -> UserError:
    """The model Hub cannot be reached."""
    return UserError(
        "The model Hub cannot be reached.",
        where,
        "Check the network, or choose the starter model or a folder on this machine.",
        code="hub_down",
    )
