"""train(run): the whole story of one run, top to bottom.

Each step's details are in its own room.
"""

import signal
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from datasets import Dataset, disable_progress_bars
from transformers import PrinterCallback
from transformers.utils.logging import disable_progress_bar

from .adapters import lora_config
from .agree import first_decides, first_goes_ahead, join, shards_model
from .answers import check_answers
from .callbacks import RecordRun
from .child_environment import rank_and_size
from .data.training_rows import training_dataset, training_row
from .disk_space import GIB, size_of
from .errors import UserError
from .evaluating import StopEarly, survive_evaluation, use_best, warn_without_rows
from .guard import FiniteGuard
from .hardware import hardware
from .memory_check import check_model_fits
from .model import (
    fetch_model,
    load_adapter,
    load_base,
    load_processing,
    load_tuned,
)
from .model_source import hub_revision
from .precision import accelerator, bf16_pays_on_cpu
from .preflight import Preflight, check_images, check_shares
from .recipe import Recipe, label
from .resolve import resolve
from .resuming import CourseOfNow, end_at_the_end, resume_from, same_examples_a_step
from .run_folder import Run
from .run_spec import pin
from .run_writer import RunWriter
from .saving import Saving
from .sft_config import SFTConfig
from .sft_trainer import SFTTrainer
from .shares import Shares

NEVER = 2**31 - 1  # steps: only the end of the run evaluates and saves


class Stopped(Exception):
    """The user asked to stop before there was anything to keep."""


def train(run: Run, writer: RunWriter) -> None:
    """Train a run from where it stands to its end or to a stop. Raises UserError and Stopped."""
    stop_requested = _stop_signal(run)
    join()
    disable_progress_bars()  # progress goes into the run's state
    disable_progress_bar()
    recipe, notes = first_decides(lambda: _settled(run))
    for note in notes:
        writer.warn(note)
    recipe = same_examples_a_step(run, recipe, rank_and_size()[1], writer)
    writer.update(precision=recipe.precision, learning_rate=None)

    def progress(what: str, done: float, total: float, unit: str) -> None:
        writer.progress(what, done, total, unit)
        if writer.enabled and stop_requested():  # the first process decides for all
            raise Stopped

    folder = _pinned_base(run, recipe, writer, progress)
    check_model_fits(folder, recipe)
    progress("Loading the model", 0, 1, "step")
    processing = load_processing(folder)
    if recipe.distributed == "fsdp" and not shards_model(recipe):
        writer.warn("One training process holds the whole model: FSDP needs two or more.")
    check_shares(shards_model(recipe), processing, recipe.base_model)
    train_rows, eval_rows = training_rows(run, recipe)
    has_images = "images" in train_rows.column_names
    check_images(has_images, processing, recipe.base_model)
    guard, saving = FiniteGuard(writer), Saving(writer)
    early = StopEarly(writer, recipe.early_stopping_patience)
    trainer = SFTTrainer(
        model=_start_model(run, recipe, folder),
        args=training_arguments(run, recipe, bool(eval_rows), has_images),
        train_dataset=train_rows,
        eval_dataset=eval_rows or None,
        processing_class=processing,
        peft_config=None if run.spec()["start"] else lora_config(recipe),
        callbacks=[RecordRun(writer, stop_requested, guard, saving), early, CourseOfNow()],
        preparation_progress=lambda _, done, total: progress(
            "Turning text into tokens", done, total, "rows"
        ),
    )
    trainer.remove_callback(PrinterCallback)  # the recorder logs what a person wants to read
    sharing = [Shares()] if recipe.distributed == "fsdp" else []
    for part in (*sharing, guard, saving, Preflight(writer, recipe)):
        part.attach(trainer)
    survive_evaluation(trainer, writer)
    end_at_the_end(trainer, early)
    writer.update(now=True, num_train_rows=len(train_rows), num_eval_rows=len(eval_rows))
    _warn_about_rows(trainer, recipe, writer)
    progress("Starting", 1, 1, "step")
    trainer.train(resume_from_checkpoint=resume_from(run, writer))
    if guard.gave_up or saving.bad_weights:
        raise guard.error()
    _finish(run, recipe, trainer, writer, early.stopped)


def _pinned_base(run: Run, recipe: Recipe, writer: RunWriter, progress) -> Path:
    """The base model's folder: the same files as when the run began. Raises UserError."""
    begun_with = run.spec()["base"]["revision"]
    fetch = partial(fetch_model, run.home, recipe.base_model, progress, begun_with)
    folder = first_goes_ahead(fetch)

    def hashing(done: int, total: int) -> None:
        progress("Checking the model's files", done, total, "files")

    if writer.enabled:
        pin(run.dir, folder, hub_revision(folder), run.dataset(), hashing)
    return folder


def _start_model(run: Run, recipe: Recipe, folder: Path):
    """The model as this run begins: the base model, or the weights of an earlier run."""
    # all weights train: they stay in fp32 and only the computing is in half precision, because a
    # small learning rate is rounded away in 16-bit weights
    precision = "fp32" if recipe.adapter == "full" else recipe.precision
    device = "cpu" if shards_model(recipe) else None
    start = run.dir / "start" if run.spec()["start"] else None
    if start and recipe.adapter == "full":
        return load_base(start, precision, device)
    base = load_base(folder, precision, device)
    return load_adapter(base, start, trainable=True) if start else base


def _settled(run: Run) -> tuple[Recipe, list[str]]:
    """The recipe as this run trains it. A resumed run keeps the precision it began with."""
    asked = run.recipe()
    recipe, notes = resolve(asked, hardware())
    began_with = run.state().get("precision")
    if began_with:
        return replace(recipe, precision=began_with), notes
    if (asked.precision, recipe.precision) == ("auto", "bf16") and accelerator() == "cpu":
        recipe = replace(recipe, precision="bf16" if bf16_pays_on_cpu() else "fp32")
    return recipe, notes


def _warn_about_rows(trainer: SFTTrainer, recipe: Recipe, writer: RunWriter) -> None:
    """Say what preparation did to the rows: nothing is cut or left out in silence."""
    if trainer.eval_dataset is None:
        warn_without_rows(recipe, writer)
    counts = trainer.data_counts["train"]
    if counts.cut:
        writer.warn(
            f"{counts.cut:,} of {counts.rows:,} rows are cut at {recipe.max_length} tokens."
        )
    if counts.dropped:
        writer.warn(f"{counts.dropped:,} rows have no answer left to learn and are left out.")


def _finish(run: Run, recipe: Recipe, trainer, writer: RunWriter, early: bool) -> None:
    if trainer.state.global_step < trainer.state.max_steps and not early:
        writer.enter("paused")
        return
    use_best(trainer, run, recipe, writer)
    if trainer.is_world_process_zero():
        writer.update(now=True, answers=_answers(run, recipe, trainer, writer))
    stopped_at = trainer.state.global_step if early else None
    writer.enter("finished", early_stopped=stopped_at)


def _answers(run: Run, recipe: Recipe, trainer: SFTTrainer, writer: RunWriter) -> dict | None:
    """Ask base and tuned model some held-out rows; a stop leaves this out, the training is done."""
    held_out = run.split()[1][: recipe.answer_check_rows]
    stored = run.dataset()
    if not held_out or stored.format == "text":
        return None
    rows = [training_row(one, recipe.system_prompt, stored) for one in stored.examples(held_out)]
    revision = run.spec()["base"]["revision"]
    folder = fetch_model(run.home, recipe.base_model, revision=revision)
    if shards_model(recipe):
        if 2 * size_of(folder) > hardware().memory_free * GIB:
            writer.warn("The answers were not compared: there is no room for the whole model.")
            return None
        whole = None if recipe.adapter == "full" else load_base(folder, recipe.precision)
        tuned = load_tuned(run.result().path, whole, recipe.precision)
    else:
        tuned = trainer.accelerator.unwrap_model(trainer.model)

    @contextmanager
    def base():
        if recipe.adapter == "full":
            yield load_base(folder, recipe.precision)
        else:
            with tuned.disable_adapter():
                yield tuned

    def progress(what: str, done: float, total: float, unit: str) -> None:
        writer.progress(what, done, total, unit)
        if run.stop_requested():
            raise Stopped

    try:
        return check_answers(rows, trainer.processing_class, tuned, base, progress)
    except Stopped:
        return None


def _stop_signal(run: Run):
    """A stop is a file in the run folder, or SIGTERM / Ctrl-C (a container that ends)."""
    received = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: received.append(1))
    return lambda: bool(received) or run.stop_requested()


def training_rows(run: Run, recipe: Recipe) -> tuple[Dataset, Dataset]:
    """The examples trained on and held out, as columns the trainer knows.

    Raises UserError if empty.
    """
    stored = run.dataset()
    train_at, eval_at = run.split()
    if not train_at:
        raise UserError(
            "No row is left to train on.",
            stored.name,
            f"Lower “{label('eval_fraction')}” or add rows.",
        )
    rows = training_dataset(stored, recipe.system_prompt)
    return rows.select(train_at), rows.select(eval_at)


def training_arguments(
    run: Run, recipe: Recipe, has_eval: bool, has_images: bool = False
) -> SFTConfig:
    """The recipe as the library's arguments: same names, plus what the app decides."""
    shared = ("num_train_epochs", "max_steps", "per_device_train_batch_size")
    shared += ("gradient_accumulation_steps", "optim", "lr_scheduler_type", "weight_decay")
    shared += ("max_grad_norm", "gradient_checkpointing", "max_length", "packing", "logging_steps")
    shared += ("report_to", "seed", "learning_rate", "assistant_only_loss")
    chat = run.dataset().format != "text"
    values = {name: getattr(recipe, name) for name in shared}
    return SFTConfig(
        **{
            **values,
            "assistant_only_loss": recipe.assistant_only_loss and chat,
            "packing": recipe.packing and not has_images,  # rows with pictures stay rows
        },
        output_dir=str(run.dir / "checkpoints"),
        run_name=run.name(),
        warmup_steps=_cadence(recipe.warmup_steps),
        eval_strategy="steps" if has_eval else "no",
        eval_steps=_cadence(recipe.eval_steps) or NEVER,
        per_device_eval_batch_size=recipe.per_device_train_batch_size,
        save_strategy="steps",
        save_steps=_cadence(recipe.save_steps) or NEVER,
        save_total_limit=None,
        bf16=recipe.precision == "bf16",
        fp16=recipe.precision == "fp16",
        logging_first_step=True,
        logging_nan_inf_filter=False,
        fsdp=shards_model(recipe),
        disable_tqdm=True,
    )


def _cadence(value: float) -> float | int:
    """Below 1 a share of the run; else a whole number of steps, as transformers wants it."""
    return int(value) if value >= 1 else value
