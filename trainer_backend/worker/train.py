"""train(run): one run from its settings to its last checkpoint, top to bottom."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from datasets import disable_progress_bars
from peft import PeftModel
from transformers.utils.logging import disable_progress_bar

from trainer_backend.data.checks import NO_STOP
from trainer_backend.disk import GIB
from trainer_backend.downloads import Progress
from trainer_backend.estimation.device import keep_rates, may_measure, measured_rates
from trainer_backend.estimation.timing import FETCHING, Stopwatch
from trainer_backend.hardware import hardware
from trainer_backend.models import hub_revision
from trainer_backend.models.loaded.device import settle_card
from trainer_backend.models.loaded.load import (
    fetch_model,
    load_adapter,
    load_base,
    load_processing,
)
from trainer_backend.models.loaded.pretrained import AnyModel, tokenizer_of
from trainer_backend.processes import on_stop_signal, rank_and_size
from trainer_backend.recipe import Recipe, label
from trainer_backend.recipe.expert import data_notes
from trainer_backend.recipe.resolve import resolve
from trainer_backend.runs import Run, RunWriter, pin
from trainer_backend.tokens.prepare import Counts
from trainer_backend.tokens.stopping import end_in_words, set_end_token, unlearned_end
from trainer_backend.tokens.templates.thinking import has_thinking_switch
from trainer_backend.training.distributed import first_decides, first_goes_ahead, join
from trainer_backend.training.lora.config import lora_config
from trainer_backend.training.precision import accelerator, bf16_pays_on_cpu
from trainer_backend.training.rates import device_rates
from trainer_backend.worker.arguments import shards_model, training_arguments, training_rows
from trainer_backend.worker.content import asked_about, file_rows, record_content, record_prompts
from trainer_backend.worker.evaluation import use_best, warn_without_rows
from trainer_backend.worker.facts import RunFacts
from trainer_backend.worker.memory import check_model_fits, step_parts
from trainer_backend.worker.outcome import Stopped, evaluate_result, sampling
from trainer_backend.worker.preflight import check_images, check_shards, check_truncation
from trainer_backend.worker.recorder import memory_used, record_timing
from trainer_backend.worker.resume import resume_from, same_examples_a_step
from trainer_backend.worker.run_trainer import RunTrainer


def train(run: Run, writer: RunWriter) -> None:
    """Train a run from its last checkpoint to its end or a stop. Raises UserError and Stopped."""
    clock = Stopwatch.of_process("starting")
    stop_requested = _stop_signal(run)
    for note in settle_card():
        writer.warn(note)
    join()
    _measure_device(run, writer, clock)
    disable_progress_bars()  # progress goes into the run's state
    disable_progress_bar()
    facts = _settled(RunFacts.load(run), writer)
    progress = _stoppable_progress(writer, stop_requested)
    clock.enter("loading")
    base = _pinned_base(facts, writer, progress, clock)
    parts = first_decides(partial(step_parts, facts))
    check_model_fits(base, facts.recipe)
    progress("Loading the model", 0, 1, "step")
    processing = load_processing(base, facts.recipe.chat_template)
    set_end_token(tokenizer_of(processing), facts.recipe.eos_token)
    train_rows, eval_rows = training_rows(facts)
    has_images = "images" in train_rows.column_names
    check_shards(shards_model(facts.recipe), processing, facts.recipe.base_model)
    check_images(has_images, processing, facts.recipe.base_model)
    check_truncation(has_images, facts.recipe)
    args = training_arguments(facts, bool(eval_rows), has_images)
    model = _start_model(facts, base)
    clock.enter("preparing")
    with asked_about(facts, writer):
        trainer = RunTrainer(
            facts,
            writer,
            stop_requested,
            clock,
            parts,
            model=model,
            args=args,
            train_dataset=train_rows,
            eval_dataset=eval_rows or None,
            processing_class=processing,
            peft_config=None if isinstance(model, PeftModel) else lora_config(facts.recipe, model),
            preparation_progress=lambda _, done, total: progress(
                "Turning text into tokens", done, total, "rows"
            ),
        )
    if trainer.pissa is not None and facts.start:
        trainer.pissa.load(facts.start)
    _warn_about_rows(trainer, facts, writer)
    if samples := sampling(facts, trainer):
        trainer.add_callback(samples)
    progress("Starting", 1, 1, "step")
    clock.enter("trial")
    trainer.train(resume_from_checkpoint=resume_from(facts, writer))
    trainer.check_finite()
    _finish(facts, base, trainer, progress)


def _stop_signal(run: Run) -> Callable[[], bool]:
    """Whether a stop was requested: by a file in the run folder, SIGTERM or Ctrl-C."""
    received: list[bool] = []
    on_stop_signal(lambda: received.append(True))
    return lambda: bool(received) or run.stop_requested()


def _measure_device(run: Run, writer: RunWriter, clock: Stopwatch) -> None:
    """Measure this machine for later estimates, once: about a second."""
    machine = hardware()
    if writer.enabled and may_measure() and not measured_rates(machine, run.home):
        with clock.during("measuring"):
            keep_rates(run.home, machine, device_rates())


def _settled(facts: RunFacts, writer: RunWriter) -> RunFacts:
    """The facts with the final settings of this machine and number of processes."""
    recipe, notes = first_decides(lambda: _resolved(facts))
    for note in notes:
        writer.warn(note)
    recipe = same_examples_a_step(facts.run, recipe, rank_and_size()[1], writer)
    if recipe.distributed == "fsdp" and not shards_model(recipe):
        writer.warn("One training process holds the whole model: FSDP needs two or more.")
    writer.update(precision=recipe.precision, learning_rate=None)
    return replace(facts, recipe=recipe)


def _resolved(facts: RunFacts) -> tuple[Recipe, list[str]]:
    """The recipe without “auto”, and notes; a resumed run keeps its precision."""
    asked = facts.recipe
    recipe, notes = resolve(asked, hardware())
    began_with = facts.run.state().get("precision")
    if began_with:
        return replace(recipe, precision=began_with), notes
    if (asked.precision, recipe.precision) == ("auto", "bf16") and accelerator() == "cpu":
        recipe = replace(recipe, precision="bf16" if bf16_pays_on_cpu() else "fp32")
    return recipe, notes


def _stoppable_progress(writer: RunWriter, stop_requested: Callable[[], bool]) -> Progress:
    """Records the progress of a preparation step; raises Stopped on a stop request."""

    def progress(what: str, done: float, total: float, unit: str, words: str = "") -> None:
        writer.progress(what, done, total, unit, words)
        if writer.enabled and stop_requested():  # the first process decides for all
            raise Stopped

    return progress


def _pinned_base(facts: RunFacts, writer: RunWriter, progress: Progress, clock: Stopwatch) -> Path:
    """The base model's folder. Raises UserError if its files have changed since the first start."""
    run, base_model = facts.run, facts.recipe.base_model
    fetch = partial(fetch_model, run.home, base_model, progress, facts.revision)
    with clock.during(FETCHING):
        folder = first_goes_ahead(fetch)

    def hashing(done: int, total: int) -> None:
        progress("Checking the model's files", done, total, "files")

    if writer.enabled:
        pin(run.dir, folder, hub_revision(folder), facts.dataset, hashing)
    return folder


def _start_model(facts: RunFacts, base: Path) -> AnyModel:
    """The initial model: the base model, or the weights of an earlier run."""
    recipe, start = facts.recipe, facts.start
    # full fine-tuning keeps fp32 weights and computes in half precision: updates with a small
    # learning rate would be rounded away in 16-bit weights
    precision = "fp32" if recipe.adapter == "full" else recipe.precision
    device = "cpu" if shards_model(recipe) else None
    if start and recipe.adapter == "full":
        return load_base(start, precision, device)
    model = load_base(base, precision, device)
    anew = recipe.init_lora_weights == "pissa"  # its adapter is made first, then loaded into
    return load_adapter(model, start, trainable=True) if start and not anew else model


def _warn_about_rows(trainer: RunTrainer, facts: RunFacts, writer: RunWriter) -> None:
    """Note how many rows train, and warn about those that are truncated, left out or incomplete."""
    recipe, counts = facts.recipe, trainer.data_counts["train"]
    for note in data_notes(recipe, facts.dataset.format):
        writer.warn(note)
    held_out = trainer.data_counts.get("eval", Counts())
    writer.update(now=True, num_train_rows=counts.given, num_eval_rows=held_out.given)
    if trainer.eval_dataset is None:
        warn_without_rows(recipe, writer)
    record_content(trainer.data_counts, trainer.mended_kinds, facts, writer)
    if writer.enabled and facts.dataset.format != "text":
        record_prompts(facts, tokenizer_of(trainer.processing_class), writer)
    template = str(tokenizer_of(trainer.processing_class).chat_template)
    if recipe.thinking != "auto" and not has_thinking_switch(template):
        writer.warn(
            f"The chat template has no thinking switch; without effect: “{label('thinking')}”."
        )
    if counts.cut:
        writer.warn(
            f"{counts.cut:,} of {counts.rows:,} rows are cut at {recipe.max_length} tokens."
        )
    if counts.dropped:
        writer.warn(f"{counts.dropped:,} rows have no answer left to learn and are left out.")
    if counts.endless:
        ends = end_in_words(tokenizer_of(trainer.processing_class)) or "a token of the model"
        endless = {"train": np.flatnonzero(counts.content & NO_STOP)}
        rows = file_rows(facts.dataset, facts.places, endless)
        some = f" ({facts.dataset.in_words(rows)})" if len(rows) < counts.rows else ""
        writer.warn(
            f"{unlearned_end(counts.endless, counts.rows)[:-1]}{some}. "
            f"Set “{label('eos_token')}” to {ends} and start again, or answers go on until they "
            "are cut off."
        )


def _finish(facts: RunFacts, base: Path, trainer: RunTrainer, progress: Progress) -> None:
    writer, state, early = trainer.writer, trainer.state, trainer.early.stopped
    trainer.clock.enter("comparing")
    if state.global_step < state.max_steps and not early:
        record_timing(trainer, facts, base, trainer.clock, trainer.saving.saves)
        writer.enter("paused")
        return
    use_best(trainer, facts.run, facts.recipe, writer)
    if trainer.is_world_process_zero():
        writer.update(now=True, answers=evaluate_result(facts, base, trainer, progress))
    record_timing(trainer, facts, base, trainer.clock, trainer.saving.saves)
    stopped_at = state.global_step if early else None
    peak = round(memory_used() / GIB, 2)  # saving and answering may have taken the most
    writer.enter("finished", early_stopped=stopped_at, memory_gb=peak)
