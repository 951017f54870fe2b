"""Turns a run into files to take away: the adapter, or one merged model. Chatting is chat.py."""

import json
import shutil
import zipfile
from pathlib import Path

from .chat import Target, run_target
from .errors import UserError
from .home import new_id, write_json
from .model import Progress, fetch_model, load_base, load_tokenizer, load_tuned, silent
from .model_card import model_card
from .model_source import locate_model
from .runs import Run

FORMATS = ("adapter", "merged")
TRAINING_ONLY = (
    "optimizer",
    "scheduler",
    "rng_state",
    "trainer_state",
    "training_args",
    "MANIFEST",
)


def export_run(
    run: Run,
    format: str,
    out: Path | None = None,
    progress: Progress = silent,
    step: int | None = None,
) -> Path:
    """Write a run's model into a folder (`out`, else the home's exports/) and return it.

    `adapter`: the small trained weights with their tokenizer. `merged`: base and adapter in one
    model. Raises UserError for an unknown format or a run without a checkpoint.
    """
    if format not in FORMATS:
        raise UserError(
            f"There is no export format “{str(format)[:40]}”.",
            "Export",
            f"Use {' or '.join(FORMATS)}.",
        )
    target = run_target(run, step)
    if format == "adapter" and not target.has_adapter:
        raise UserError(
            "This run trained every weight, so it has no adapter.",
            run.name(),
            "Export “merged” instead.",
        )
    folder = out or run.home / "exports" / run.id / format
    work = folder.with_name(f".{new_id('export')}")
    work.mkdir(parents=True)
    try:
        write = _write_adapter if format == "adapter" else _write_merged
        write(run, target, work, progress)
        (work / "README.md").write_text(model_card(run, format, str(folder)), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def zip_folder(folder: Path) -> Path:
    """Pack an export into one file beside it (weights hardly shrink, so they are only stored)."""
    archive = folder.with_name(f"{folder.parent.name}-{folder.name}.zip")
    part = archive.with_name(f".{new_id('zip')}")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as out:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            out.write(file, file.relative_to(folder))
    part.replace(archive)
    return archive


def _write_adapter(run: Run, target: Target, work: Path, progress: Progress) -> None:
    for file in target.checkpoint.iterdir():
        if file.is_file() and not file.name.startswith(TRAINING_ONLY):
            shutil.copy2(file, work / file.name)
    if locate_model(run.home, target.base_model).folder is None:  # its files are in the Hub cache
        config = json.loads((work / "adapter_config.json").read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = target.base_model
        write_json(work / "adapter_config.json", config)


def _write_merged(run: Run, target: Target, work: Path, progress: Progress) -> None:
    folder = fetch_model(run.home, target.base_model, progress)
    progress("Merging the model", 0, 1, "step")
    # merged weights are whole numbers again: a 4-bit base would round the adapter away
    precision = "bf16" if target.precision in ("int8", "int4") else target.precision
    base = load_base(folder, precision) if target.has_adapter else None
    model = load_tuned(target.checkpoint, base, precision)
    if target.has_adapter:
        model = model.merge_and_unload()
    model.save_pretrained(work)
    load_tokenizer(target.checkpoint).save_pretrained(work)
    progress("Merging the model", 1, 1, "step")
