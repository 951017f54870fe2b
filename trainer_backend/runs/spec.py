"""What a run was asked for and began with: spec.json, its older format, and what may not change.

The folder around it is run_folder.py; how it is trained is train.py.
"""

import copy
import hashlib
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trainer_backend.data.store import StoredDataset
from trainer_backend.errors import UserError
from trainer_backend.hardware import Hardware
from trainer_backend.home import read_json, write_json
from trainer_backend.recipe import Recipe, label, named
from trainer_backend.runs.files import SPEC

FORMAT_VERSION = 2
PACKAGES = (
    *("torch", "transformers", "peft", "datasets", "accelerate", "bitsandbytes"),
    *("tokenizers", "safetensors", "numpy"),
)
LENGTH_FIELDS = ("num_train_epochs", "max_steps")
BATCH_FIELDS = ("per_device_train_batch_size", "gradient_accumulation_steps")
# what decides which numbers come out; the files of an export or a model card do not
BASE_FILES = ("*.safetensors", "config.json", "tokenizer.json", "tokenizer.model")


def make_spec(facts: dict, recipe: Recipe, dataset: StoredDataset, machine: Hardware) -> dict:
    """The spec of a new run. The worker adds the hashes of the base model once (`pin`)."""
    return {
        "format_version": FORMAT_VERSION,
        "start": None,
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
    """Versions of what computes, on this machine now."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def read_spec(path: Path) -> dict:
    """Read a spec of this format or an older one, in the shape of this one.

    Raises UserError when a newer version of the app wrote it, or when it is damaged.
    """
    try:
        spec = read_json(path)
        written = spec.get("format_version", 1)
        if written > FORMAT_VERSION:
            raise _newer(path, written)
        spec = spec if written == FORMAT_VERSION else _from_first_format(spec)
        if isinstance(spec["recipe"], dict) and isinstance(spec["dataset"]["name"], str):
            return {**spec, "created_at": float(spec["created_at"])}
        raise ValueError("a part of it is of another kind")
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise damaged_file("What this run was asked for", path, error) from None


def damaged_file(what: str, path: Path, error: Exception) -> UserError:
    """A file of a run that cannot be told anew from others."""
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


def _from_first_format(spec: dict) -> dict:
    """Format 1 knew neither hashes nor seeds of their own; what is unknown is not compared."""
    spec = copy.deepcopy(spec)
    recipe = {**Recipe().to_dict(), **spec["recipe"]}
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


def file_facts(path: Path) -> dict:
    """Size and sha256 of a file; the name of a blob of the Hub cache is its sha256 already."""
    real = path.resolve()
    is_blob = len(real.name) == 64 and real.parent.name == "blobs"
    if is_blob and all(letter in "0123456789abcdef" for letter in real.name):
        return {"size": real.stat().st_size, "sha256": real.name}
    with open(real, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"size": real.stat().st_size, "sha256": digest}


def base_files(folder: Path) -> list[Path]:
    """The files of a model folder that decide what is trained."""
    return sorted({path for pattern in BASE_FILES for path in folder.glob(pattern)})


def pin(
    run_dir: Path,
    folder: Path,
    revision: str | None,
    dataset: StoredDataset,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the hashes of the base model into the spec, or compare with those in it; so the data.

    Only the worker that holds the run calls this. Raises UserError naming what is different.
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


def _compare_files(base: dict, folder: Path, progress: Callable[[int, int], None]) -> None:
    """Sizes first: most changes show there, and weights take long to read."""
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
        f"The base model is not the one this run began with: {name} is different.",
        f"{label('base_model')} “{base_model}” ({folder})",
        "Put the old file back, or start a new run from these weights.",
        code="base_changed",
    )


def package_differences(then: dict[str, str]) -> list[str]:
    """Packages that are not the ones a run began with, in words."""
    now = package_versions()
    return [
        f"{name} {now.get(name, 'missing')} instead of {then[name]}"
        for name in sorted(then)
        if then[name] != now.get(name)
    ]


def locked_fields() -> tuple[str, ...]:
    """Recipe fields that cannot change within a run.

    Batch size and accumulation may change together: their product may not.
    """
    return tuple(name for name in Recipe().to_dict() if name not in LENGTH_FIELDS)


def check_changes(before: Recipe, after: Recipe) -> dict[str, object]:
    """The changes a run may go on with. Raises UserError naming the locked settings."""
    old, new = before.to_dict(), after.to_dict()
    changes = {name: new[name] for name in new if new[name] != old[name]}
    open_fields = LENGTH_FIELDS
    if _examples_a_step(before) == _examples_a_step(after):
        open_fields += BATCH_FIELDS
    locked = [name for name in changes if name not in open_fields]
    shorter = [
        name
        for name in LENGTH_FIELDS
        if name in changes and 0 < new[name] < old[name] and name != _unused_length(after)
    ]
    if locked or shorter:
        wrong = locked or shorter
        what = "cannot change within a run" if locked else "can only grow within a run"
        raise UserError(
            f"{named(wrong)} {what}.",
            "Resume",
            "Leave it as it was, or start a new run from these weights.",
            code="settings_locked",
        )
    return changes


def _examples_a_step(recipe: Recipe) -> int:
    return recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps


def _unused_length(recipe: Recipe) -> str:
    return "num_train_epochs" if recipe.max_steps > 0 else "max_steps"
