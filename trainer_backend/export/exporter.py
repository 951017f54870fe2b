"""Exports a run as an adapter, a merged model, a GGUF file or a script.

Formats are chosen, checked and put in place here; how a format is written lies elsewhere.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from peft import PeftModel
from transformers import AutoConfig, GenerationConfig, PreTrainedModel
from transformers.utils import GENERATION_CONFIG_NAME

from trainer_backend.downloads import Progress, silent
from trainer_backend.errors import UserError
from trainer_backend.export.card import MADE_BY, model_card
from trainer_backend.export.files import check_weights, sweep
from trainer_backend.export.gguf import check_model, read_vocabulary, write_gguf
from trainer_backend.export.script import write_script
from trainer_backend.home import new_id, write_json
from trainer_backend.models import locate_model
from trainer_backend.models.loaded.generate import keep_stops, with_stops
from trainer_backend.models.loaded.load import (
    fetch_model,
    load_base,
    load_processing,
    load_tokenizer,
    load_tuned,
)
from trainer_backend.models.snippets import GGUF_FILE
from trainer_backend.runs import Run, Target, run_target

FORMATS = ("adapter", "merged", "gguf", "script")
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
    """Write a run's model into a folder (`out`, else in the home's exports/) and return it.

    `adapter`: adapter weights and tokenizer. `merged`: base model with the adapter merged in.
    `gguf`: the same as one file for llama.cpp. `script`: Python, data and recipe that repeat the
    run, the only format that needs no checkpoint. An earlier export in `out` is replaced. Raises
    UserError for an unknown format, a place that is taken, or a run that has no such export.
    """
    if format not in FORMATS:
        raise UserError(
            f"There is no export format “{str(format)[:40]}”.",
            "Export",
            f"Use {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.",
        )
    if out is not None and out.exists() and not (out.is_dir() and _is_export(out)):
        raise UserError(
            "This path exists and is no earlier export, so it is not replaced.",
            str(out),
            "Choose a new folder, an empty one, or that of an earlier export.",
        )
    write = _writer(run, format, step)
    folder = out or run.home / "exports" / run.id / format
    work = folder.with_name(f".{new_id('export')}")
    sweep(folder.parent)
    work.mkdir(parents=True)
    try:
        write(work, progress)
        check_weights(work)
        shown = str(out) if out else format  # a path of this machine means nothing in a zip
        (work / "README.md").write_text(model_card(run, format, shown, step), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _is_export(folder: Path) -> bool:
    """Whether a folder may be replaced: it is empty or an earlier export."""
    page = folder / "README.md"
    made_here = page.is_file() and MADE_BY in page.read_text(encoding="utf-8", errors="replace")
    return made_here or not any(folder.iterdir())


def _writer(run: Run, format: str, step: int | None) -> Callable[[Path, Progress], None]:
    """The function that fills the folder. Raises UserError when the run cannot be exported so."""
    if format == "script":
        return lambda work, progress: write_script(run, work, progress)
    target = run_target(run, step)
    if format == "adapter" and not target.has_adapter:
        raise UserError(
            "This run trained every weight, so it has no adapter.",
            run.name(),
            "Export “merged” instead.",
        )
    write = {"adapter": _write_adapter, "merged": _write_merged, "gguf": _write_gguf}[format]
    return lambda work, progress: write(run, target, work, progress)


def _write_adapter(run: Run, target: Target, work: Path, progress: Progress) -> None:
    for file in _checkpoint(target).iterdir():
        if file.is_file() and not file.name.startswith(TRAINING_ONLY):
            shutil.copy2(file, work / file.name)
    if locate_model(run.home, target.base_model).folder is None:  # it lies in the Hub cache
        config = json.loads((work / "adapter_config.json").read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = target.base_model
        write_json(work / "adapter_config.json", config)
    _write_stops(target, work)


def _write_stops(target: Target, work: Path) -> None:
    """Write the generation settings beside an adapter: its base model's own may not stop it."""
    checkpoint = _checkpoint(target)
    has_own = (checkpoint / GENERATION_CONFIG_NAME).is_file()
    settings = GenerationConfig.from_pretrained(checkpoint) if has_own else GenerationConfig()
    settings.eos_token_id = with_stops(settings, load_tokenizer(checkpoint))
    settings.save_pretrained(work)


def _write_merged(run: Run, target: Target, work: Path, progress: Progress) -> None:
    folder = fetch_model(run.home, target.base_model, progress, target.revision)
    _merged(folder, target, progress).save_pretrained(work)
    load_processing(_checkpoint(target)).save_pretrained(work)


def _write_gguf(run: Run, target: Target, work: Path, progress: Progress) -> None:
    folder = fetch_model(run.home, target.base_model, progress, target.revision)
    source = folder if target.has_adapter else _checkpoint(target)
    config = AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=True)
    check_model(config)
    vocabulary = read_vocabulary(load_tokenizer(_checkpoint(target)), config)

    def on_tensor(done: int, total: int) -> None:
        progress("Writing the GGUF file", done, total, "weights")

    model = _merged(folder, target, progress)
    write_gguf(model, vocabulary, work / GGUF_FILE, run.name(), on_tensor)


def _checkpoint(target: Target) -> Path:
    assert target.checkpoint is not None  # the target of a run always has one
    return target.checkpoint


def _merged(folder: Path, target: Target, progress: Progress) -> PreTrainedModel:
    """The base model with the adapter merged into its weights, or the fully trained model."""
    progress("Merging the model", 0, 1, "step")
    # a 4-bit or 8-bit base would round the adapter away
    precision = "bf16" if target.precision in ("int8", "int4") else target.precision
    base = load_base(folder, precision) if target.has_adapter else None
    model = load_tuned(_checkpoint(target), base, precision)
    merged = model.merge_and_unload() if isinstance(model, PeftModel) else model
    assert isinstance(merged, PreTrainedModel)
    keep_stops(merged, load_tokenizer(_checkpoint(target)))
    progress("Merging the model", 1, 1, "step")
    return merged
