"""Where a base model comes from: a folder, the starter model, or the Hub.

Torch-free; nothing is loaded into memory here.
"""

import json
import os
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
from trainer_backend.models.architectures import architecture_problem
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
    these, the folder lies outside of the folders that models may come from, or it is not a safe,
    complete model of an architecture that can be trained.
    """
    name = base_model.strip()
    starter = home / "models" / "SmolLM2-135M-Instruct"
    if name == STARTER_MODEL:
        return ModelSource("starter", name, starter if (starter / "config.json").exists() else None)
    if name and (folder := _existing(name)):
        _check_root(home, folder)
        check_folder(folder)
        return ModelSource("folder", name, folder.resolve())
    if not HUB_ID.fullmatch(name) or name.count("/") != 1 or ".." in name:
        why, fix = _no_id(name)
        where = f"{label('base_model')} “{name[:80]}”"
        raise UserError(f"There is no such model{why}.", where, fix, code="model_id")
    return ModelSource("hub", name, None)


def _no_id(name: str) -> tuple[str, str]:
    """What is wrong with a text that is neither a folder nor an id: (the reason, a fix)."""
    address = re.fullmatch(r"(?:https?://)?(?:huggingface\.co|hf\.co)/([^/\s]+/[^/?#\s]+).*", name)
    if address:
        return ": this is an address, not an id", f"Write “{address[1][:120]}”."
    if not name:
        return ": the field is empty", FOLDER_WORDS
    if name.startswith(("/", "~", ".", "\\")) or re.match(r"[A-Za-z]:[\\/]", name):
        return ": no folder of this machine has this path", FOLDER_WORDS
    if re.search(r"\s", name):
        return ": an id has no spaces", FOLDER_WORDS
    if "@" in name:
        return ": a version cannot be named with the id", f"Write “{name.partition('@')[0][:80]}”."
    if "/" not in name:
        return ": an id has an owner and a name", FOLDER_WORDS
    return ": an id is an owner, one slash and a name of letters, digits and “-_.”", FOLDER_WORDS


def model_roots() -> list[Path]:
    """The folders of SFT_STUDIO_MODEL_ROOTS, colon-separated, below which models are looked for."""
    named = os.environ.get("SFT_STUDIO_MODEL_ROOTS", "").split(os.pathsep)
    return [Path(one).expanduser().resolve() for one in named if one.strip()]


def _check_root(home: Path, folder: Path) -> None:
    """Raise UserError for a folder outside of the roots; without roots any folder is allowed."""
    roots, resolved = model_roots(), folder.resolve()
    if roots and not any(resolved.is_relative_to(root) for root in (*roots, home.resolve())):
        raise UserError(
            "This folder lies outside of the folders that models may come from.",
            str(folder),
            f"Choose a folder below {' or '.join(map(str, roots))} (SFT_STUDIO_MODEL_ROOTS).",
            code="model_outside",
        )


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
    if problem := architecture_problem(config, str(folder / "config.json")):
        raise UserError(problem.what, problem.where, problem.fix, code=problem.code)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        others = sorted(
            p.name for s in ("*.bin", "*.pt", "*.pth", "*.gguf") for p in folder.glob(s)
        )
        what = f"The folder holds only {others[0]}" if others else "The folder holds no weights"
        raise UserError(
            f"{what}; weights must be in .safetensors files.",
            str(folder),
            "Save the model with save_pretrained (safetensors) and choose that folder.",
            code="model_format",
        )
    _check_index(folder)


def adapter_error(base: str, where: str) -> UserError:
    """The UserError for an adapter instead of a model; `base` is its base model ("": unknown)."""
    chosen = f"Choose the base model {base[:200]}" if base else "Choose its base model"
    fix = f"{chosen}; to go on training an adapter of your own, use --from with its run."
    what = "This is an adapter, not a model."
    return UserError(what, where, fix, code="model_adapter")


def gguf_error(file: str, original: str, where: str) -> UserError:
    """The UserError for a model in GGUF files; `original` is the model they were made from."""
    what = f"The weights are in a GGUF file ({file[:80]}), which cannot be trained."
    name = f"the original model {original[:200]}" if original else "the original model"
    fix = f"Choose {name}: its weights are in .safetensors files."
    return UserError(what, where, fix, code="model_format")


def _base_of(adapter: Path) -> str:
    try:
        settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        return str(settings.get("base_model_name_or_path") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def _config(folder: Path) -> dict:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("not an object")
        return config
    except FileNotFoundError:
        fix = "Choose a folder that has config.json, tokenizer.json and .safetensors files."
        if (folder / "adapter_config.json").exists():
            raise adapter_error(_base_of(folder), str(folder)) from None
        if others := sorted(folder.glob("*.gguf")):
            raise gguf_error(others[0].name, "", str(folder)) from None
        what = "This folder holds no model."
        raise UserError(what, str(folder), fix, code="model_id") from None
    except (OSError, ValueError, RecursionError) as error:
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
