"""spec.json: a run's settings, dataset, base model and machine at the start, and what is locked."""

import copy
import hashlib
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trainer_backend.data.store import StoredDataset
from trainer_backend.errors import UserError
from trainer_backend.hardware import Hardware
from trainer_backend.home import read_json, write_json
from trainer_backend.recipe import Recipe, label, named
from trainer_backend.runs.files import SPEC

FORMAT_VERSION = 3
# settings that runs of an earlier format began with, without knowing them
BEFORE_CONTENT = {
    "chat_template": "model",
    "thinking": "auto",
    "eos_token": "",
    "control_tokens": "tokens",
    "lost_content": "train_without",
}
PACKAGES = (
    *("torch", "transformers", "peft", "datasets", "accelerate", "bitsandbytes"),
    *("tokenizers", "safetensors", "numpy"),
)
LENGTH_FIELDS = ("num_train_epochs", "max_steps")
BATCH_FIELDS = ("per_device_train_batch_size", "gradient_accumulation_steps")
# the files that determine the result of a training
BASE_FILES = ("*.safetensors", "config.json", "tokenizer.json", "tokenizer.model")


def make_spec(
    facts: dict[str, Any], recipe: Recipe, dataset: StoredDataset, machine: Hardware
) -> dict[str, Any]:
    """The spec of a new run; the worker adds the hashes of the base model (`pin`)."""
    return {
        "format_version": FORMAT_VERSION,
        "began_format": FORMAT_VERSION,
        **facts,
        "recipe": recipe.to_dict(),
        "dataset": {
            "id": dataset.id,
            "name": dataset.name,
            "num_examples": dataset.num_examples,
            "hash": dataset.hash,
        },
        "base": {"id": recipe.base_model, "revision": None, "files": {}},
        "seeds": {"training": recipe.seed, "held_out_split": recipe.seed},
        "packages": package_versions(),
        "hardware": machine.label(),
        "machine": asdict(machine),
    }


def package_versions() -> dict[str, str]:
    """Installed versions of Python and of the packages that affect a result."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def read_spec(path: Path) -> dict[str, Any]:
    """Read a spec; an older format is converted.

    Raises UserError if a newer version of the app wrote it, or if it is damaged.
    """
    try:
        spec: Any = read_json(path)
        written = spec.get("format_version", 1)
        if written > FORMAT_VERSION:
            raise _newer(path, written)
        spec = {"began_format": written, **spec}
        spec = _from_first_format(spec) if written < 2 else spec
        spec = _from_second_format(spec) if written < FORMAT_VERSION else spec
        if isinstance(spec["recipe"], dict) and isinstance(spec["dataset"]["name"], str):
            return {**spec, "created_at": float(spec["created_at"])}
        raise ValueError("an entry has the wrong type")
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise damaged_file("The file of this run's settings", path, error) from None


def damaged_file(what: str, path: Path, error: Exception) -> UserError:
    """The error for a damaged run file that cannot be rebuilt."""
    reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
    return UserError(
        f"{what} cannot be read.",
        str(path),
        f"Restore the file, or delete the run: {reason[:160]}.",
    )


def _newer(path: Path, written: int) -> UserError:
    return UserError(
        "This run was made by a newer version.",
        f"run {path.parent.name}, format {written}",
        "Update this app, or open the run where it was made.",
    )


def _from_first_format(spec: dict[str, Any]) -> dict[str, Any]:
    """Format 1 had no hashes and seeds; what is missing is not compared."""
    spec = copy.deepcopy(spec)
    recipe = {**Recipe().to_dict(), **BEFORE_CONTENT, **spec["recipe"]}
    defaults = {
        "format_version": FORMAT_VERSION,
        "recipe": recipe,
        "base": {"id": recipe["base_model"], "revision": None, "files": {}},
        "seeds": {"training": recipe["seed"], "held_out_split": recipe["seed"]},
        "machine": {},
        "start": None,
    }
    dataset = {"hash": "", **spec["dataset"]}
    return {**spec, **defaults, "dataset": dataset}


def _from_second_format(spec: dict[str, Any]) -> dict[str, Any]:
    """Format 2 had no settings about content: its runs go on as they began."""
    recipe = {**BEFORE_CONTENT, **spec["recipe"]}
    return {**spec, "format_version": FORMAT_VERSION, "recipe": recipe}


def file_facts(path: Path) -> dict[str, Any]:
    """Size in bytes and sha256 of a file; a blob of the Hub cache is named by its sha256."""
    real = path.resolve()
    is_blob = len(real.name) == 64 and real.parent.name == "blobs"
    if is_blob and all(letter in "0123456789abcdef" for letter in real.name):
        return {"size": real.stat().st_size, "sha256": real.name}
    with open(real, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"size": real.stat().st_size, "sha256": digest}


def base_files(folder: Path) -> list[Path]:
    """The files of a model folder that determine the result of a training."""
    return sorted({path for pattern in BASE_FILES for path in folder.glob(pattern)})


def pin(
    run_dir: Path,
    folder: Path,
    revision: str | None,
    dataset: StoredDataset,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the hashes of the base model into the spec; if they are there, verify model and data.

    Only for the worker that holds the run. `progress` gets files done and in total. Raises
    UserError naming what has changed.
    """
    spec = read_spec(run_dir / SPEC)
    _compare_files(spec["base"], folder, progress)
    dataset.check_unchanged(spec["dataset"]["hash"])
    if spec["base"]["files"]:
        return
    paths, files = base_files(folder), {}
    for done, path in enumerate(paths):
        progress(done, len(paths))
        files[path.name] = file_facts(path)
    base = {**spec["base"], "revision": revision, "files": files}
    write_json(run_dir / SPEC, {**spec, "base": base})


def _compare_files(
    base: dict[str, Any], folder: Path, progress: Callable[[int, int], None]
) -> None:
    """Sizes first: most changes show there, and hashing weights takes long."""
    expected = base["files"]
    for name, facts in expected.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != facts["size"]:
            raise _base_changed(base["id"], folder, name)
    for done, (name, facts) in enumerate(expected.items()):
        progress(done, len(expected))
        if file_facts(folder / name)["sha256"] != facts["sha256"]:
            raise _base_changed(base["id"], folder, name)


def _base_changed(base_model: str, folder: Path, name: str) -> UserError:
    return UserError(
        f"The base model has changed since this run started: {name} is different.",
        f"{label('base_model')} “{base_model}” ({folder})",
        "Restore the old file, or start a new run from these weights.",
        code="base_changed",
    )


def package_differences(then: dict[str, str]) -> list[str]:
    """Packages whose version differs from the run's (`then`), as “name 2.0 instead of 1.0”."""
    now = package_versions()
    return [
        f"{name} {now.get(name, 'missing')} instead of {then[name]}"
        for name in sorted(then)
        if then[name] != now.get(name)
    ]


def locked_fields() -> tuple[str, ...]:
    """Recipe fields that cannot change within a run.

    Batch size and gradient accumulation may change if their product stays the same.
    """
    return tuple(name for name in Recipe().to_dict() if name not in LENGTH_FIELDS)


def check_changes(before: Recipe, after: Recipe) -> dict[str, object]:
    """The changed settings of a resumed run. Raises UserError naming those that are locked."""
    old, new = before.to_dict(), after.to_dict()
    changes = {name: new[name] for name in new if new[name] != old[name]}
    same_batch = _examples_a_step(before) == _examples_a_step(after)
    open_fields = (*LENGTH_FIELDS, *(BATCH_FIELDS if same_batch else ()))
    locked = [name for name in changes if name not in open_fields]
    shorter = [
        name
        for name in LENGTH_FIELDS
        if name in changes and 0 < new[name] < old[name] and name != _unused_length(after)
    ]
    if locked or shorter:
        wrong = locked or shorter
        what = "cannot change within a run" if locked else "can only increase within a run"
        raise UserError(
            f"{named(wrong)} {what}.",
            "Resume",
            "Keep the old value, or start a new run from these weights.",
            code="settings_locked",
        )
    return changes


def _examples_a_step(recipe: Recipe) -> int:
    return recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps


def _unused_length(recipe: Recipe) -> str:
    return "num_train_epochs" if recipe.max_steps > 0 else "max_steps"
