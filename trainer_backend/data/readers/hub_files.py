"""Which files of a Hub dataset belong to which config and split, from its card or file names.

Pure functions of names; nothing is requested or fetched. The rules follow the Hub's:
https://huggingface.co/docs/hub/datasets-data-files-configuration
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from fsspec.utils import glob_translate

from trainer_backend.data.readers.options import TABLE_SUFFIXES

Splits = dict[str, tuple[str, ...]]  # split → files, in order
_SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_NOT_DATA = ("dataset_infos.json", "dataset_info.json", "config.json", "state.json")


@dataclass(frozen=True)
class HubChoices:
    """The configs and splits of a Hub dataset: `configs` maps config → split → files."""

    repo_id: str
    revision: str  # the commit the files are taken from
    configs: dict[str, Splits]


def configs_of(names: list[str], card: dict | None) -> dict[str, Splits]:
    """The configs that the card declares; without any, one “default” config from file names."""
    data = sorted(name for name in names if _is_data(name))
    configs = {}
    declared = (card or {}).get("configs")
    for one in declared if isinstance(declared, list) else []:
        if isinstance(one, dict):
            splits = _splits_of_card(data, one)
            if splits:
                configs[str(one.get("config_name") or "default")] = splits
    if configs or not data:
        return configs
    return {"default": _splits_of_names(_commonest_kind(data))}


def converted_configs(names: list[str]) -> dict[str, Splits]:
    """The configs of the Hub's branch of Parquet copies, named config/split/0000.parquet."""
    configs: dict[str, dict[str, list[str]]] = {}
    for name in sorted(names):
        parts = name.split("/")
        if len(parts) == 3 and name.endswith(".parquet"):
            split = parts[1].removeprefix("partial-")
            configs.setdefault(parts[0], {}).setdefault(split, []).append(name)
    return {
        config: {split: tuple(files) for split, files in splits.items()}
        for config, splits in configs.items()
    }


def _is_data(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "_")) for part in path.parts)
    plain = name.lower().removesuffix(".gz")
    return plain.endswith(TABLE_SUFFIXES) and path.name not in _NOT_DATA and not hidden


def _commonest_kind(data: list[str]) -> list[str]:
    """The files of the commonest kind: repositories often hold the same rows in several."""
    kinds = [PurePosixPath(name.lower().removesuffix(".gz")).suffix for name in data]
    commonest = Counter(kinds).most_common(1)[0][0]
    return [name for name, kind in zip(data, kinds, strict=True) if kind == commonest]


def _splits_of_card(data: list[str], config: dict) -> Splits:
    """The splits of one entry under `configs:` of a dataset card."""
    folder = str(config.get("data_dir") or "").strip("/")
    inside = [name for name in data if name.startswith(f"{folder}/")] if folder else data
    declared = config.get("data_files")
    if declared is None:
        return _splits_of_names(_commonest_kind(inside)) if inside else {}
    if isinstance(declared, dict):
        declared = [{"split": split, "path": path} for split, path in declared.items()]
    if isinstance(declared, str) or all(isinstance(one, str) for one in declared):
        declared = [{"split": "train", "path": declared}]
    splits: dict[str, tuple[str, ...]] = {}
    for one in declared:
        if isinstance(one, dict):
            found = _matching(inside, one.get("path"), folder)
            if found:
                split = str(one.get("split") or "train")
                splits[split] = (*splits.get(split, ()), *found)
    return splits


def _matching(data: list[str], patterns: Any, folder: str) -> tuple[str, ...]:
    patterns = patterns if isinstance(patterns, list) else [patterns]
    found: dict[str, None] = {}
    for pattern in patterns:
        if not isinstance(pattern, str):
            continue
        pattern = pattern.removeprefix("./")
        whole = f"{folder}/{pattern}" if folder and not pattern.startswith(folder) else pattern
        fits = re.compile(glob_translate(whole))
        found |= dict.fromkeys(name for name in data if fits.match(name))
    return tuple(found)


def _splits_of_names(data: list[str]) -> Splits:
    splits: dict[str, list[str]] = {}
    for name in data:
        splits.setdefault(_split_in(name), []).append(name)
    if set(splits) == {""}:
        return {"train": tuple(splits[""])}
    return {split: tuple(files) for split, files in splits.items() if split}


def _split_in(name: str) -> str:
    """The split in a file's name, else in its folders' names; "" if there is none."""
    for part in reversed(name.lower().split("/")):
        for split, words in _SPLIT_WORDS.items():
            if re.search(rf"(?<![a-z])(?:{'|'.join(words)})(?![a-z])", part):
                return split
    return ""
