"""Models on this machine: in the Hub cache and in folders; what their small files say.

Weights are not opened but for the headers of safetensors files, which list shapes. Whether a model
can be trained is judged elsewhere.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from trainer_backend.errors import UserError
from trainer_backend.models.source import REVISION, check_folder, model_roots

MAX_HEADER = 100_000_000  # bytes; the format's own limit
MAX_FOUND = 500
MAX_DEPTH = 3  # levels of folders below a root
MAX_SEEN = 5_000  # folders looked into below a root
NOT_WEIGHTS = (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", ".quant_state")


@dataclass(frozen=True)
class LocalModel:
    """A model on this machine; `name` is what to choose: a Hub id or the path of its folder."""

    name: str
    place: str  # "cache" or "folder"
    folder: Path
    weight_bytes: int


def cached_folder(base_model: str) -> Path | None:
    """The newest snapshot of a Hub model in the cache of this machine, if it is complete."""
    repository = Path(constants.HF_HUB_CACHE) / f"models--{base_model.replace('/', '--')}"
    try:
        revision = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    folder = repository / "snapshots" / revision
    return folder if REVISION.fullmatch(revision) and _is_model(folder) else None


def cached_models() -> list[LocalModel]:
    """The complete models in the Hub cache of this machine, by name."""
    found = []
    for repository in sorted(_folders(Path(constants.HF_HUB_CACHE))):
        owner, _, name = repository.name.removeprefix("models--").partition("--")
        if not repository.name.startswith("models--") or not name:
            continue
        if folder := cached_folder(f"{owner}/{name}"):
            found.append(LocalModel(f"{owner}/{name}", "cache", folder, weight_bytes(folder)))
    return found[:MAX_FOUND]


def rooted_models() -> list[LocalModel]:
    """The models in the folders below SFT_STUDIO_MODEL_ROOTS."""
    found = []
    for root in model_roots():
        for folder in _below(root):
            if _is_model(folder):
                found.append(LocalModel(str(folder), "folder", folder, weight_bytes(folder)))
    return found[:MAX_FOUND]


def _below(root: Path) -> Iterator[Path]:
    """A folder and those in it, level by level; links and hidden folders are not followed."""
    level, seen = [root], 0
    for _ in range(MAX_DEPTH + 1):
        following: list[Path] = []
        for folder in level:
            seen += 1
            if seen > MAX_SEEN:
                return
            yield folder
            if not (folder / "config.json").exists():
                following += _folders(folder)
        level = sorted(following)


def _folders(folder: Path) -> list[Path]:
    try:
        inside = list(folder.iterdir())
    except OSError:  # gone, or not readable
        return []
    return [one for one in inside if not one.name.startswith(".") and _is_plain_folder(one)]


def _is_plain_folder(path: Path) -> bool:
    try:
        return path.is_dir() and not path.is_symlink()
    except OSError:
        return False


def _is_model(folder: Path) -> bool:
    try:
        check_folder(folder)
    except (UserError, OSError):
        return False
    return True


def weight_bytes(folder: Path) -> int:
    """Bytes of a folder's safetensors files, following the links of the Hub cache."""
    sizes = []
    for path in folder.glob("*.safetensors"):
        try:
            sizes.append(path.stat().st_size)
        except OSError:  # a link to nowhere
            continue
    return sum(sizes)


def small_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model's folder; {} when it is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def has_chat_template(folder: Path) -> bool:
    """Whether the tokenizer, or the processor, of a folder brings a chat template."""
    if (folder / "chat_template.jinja").exists() or (folder / "chat_template.json").exists():
        return True
    names = ("tokenizer_config.json", "processor_config.json")
    return any(small_json(folder / name).get("chat_template") for name in names)


def licence_of(folder: Path) -> str:
    """The licence that the model card of a folder states; "" if it states none."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")[:20_000]
    except OSError:
        return ""
    stated = re.search(r"^license:[ \t]*['\"]?([\w.+-]{1,60})", text, re.MULTILINE)
    return stated[1] if stated and text.startswith("---") else ""


def count_parameters(folder: Path) -> int | None:
    """Parameters of a folder's safetensors files, from their headers; None if one is damaged.

    Weights of bitsandbytes hold two 4-bit values in a byte; their scales are not counted.
    """
    halves = 2 if stored_bits(small_json(folder / "config.json")) == 4 else 1
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        header = _header(path)
        if header is None:
            return None
        for name, tensor in header.items():
            if name != "__metadata__" and not any(mark in name for mark in NOT_WEIGHTS):
                total += _numbers(tensor) * (halves if tensor.get("dtype") == "U8" else 1)
    return total or None


def _numbers(tensor: dict[str, Any]) -> int:
    shape = tensor.get("shape")
    sizes = shape if isinstance(shape, list) else [0]
    return math.prod(size for size in sizes if isinstance(size, int))


def _header(path: Path) -> dict[str, dict[str, Any]] | None:
    """The header of a safetensors file: its length in 8 bytes, then JSON."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= MAX_HEADER:
                return None
            header = json.loads(file.read(length))
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(header, dict) and all(isinstance(one, dict) for one in header.values())
    return header if whole else None


def stored_bits(config: dict[str, Any]) -> int | None:
    """4 or 8 when the weights are stored quantized by bitsandbytes, else None."""
    stored = config.get("quantization_config")
    if not isinstance(stored, dict):
        return None
    four, eight = stored.get("load_in_4bit"), stored.get("load_in_8bit")
    return 4 if four or stored.get("_load_in_4bit") else 8 if eight else None
