"""An evaluation from end to end: base and tuned model on held-out rows, measured and kept."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
from transformers import ProcessorMixin

from trainer_backend.data.checks import positions_of
from trainer_backend.data.store import StoredDataset, open_dataset
from trainer_backend.downloads import Progress, silent
from trainer_backend.errors import UserError
from trainer_backend.evaluation.engine.answering import answer_text, write_answers
from trainer_backend.evaluation.engine.losses import GroupLoss, HeldOutRows
from trainer_backend.evaluation.engine.prepared import prepared_rows
from trainer_backend.evaluation.engine.questions import Ready, question, ready_questions
from trainer_backend.evaluation.engine.scoring import Scored, scored
from trainer_backend.evaluation.engine.sides import Sides, open_sides
from trainer_backend.evaluation.limits import MOST_LOSS_ROWS, answer_limit, spread
from trainer_backend.evaluation.measures import Learning
from trainer_backend.evaluation.results import Evaluation, keep
from trainer_backend.home import read_json
from trainer_backend.models.loaded.answer_parts import Answer
from trainer_backend.models.loaded.asking import AskedWith, Processing
from trainer_backend.models.loaded.generate import answer_seen
from trainer_backend.models.loaded.load import load_processing
from trainer_backend.models.loaded.pretrained import AnyModel, tokenizer_of
from trainer_backend.recipe import Recipe, label
from trainer_backend.recipe.metrics import parse_metrics
from trainer_backend.runs.checkpoints import Checkpoint, best_of
from trainer_backend.runs.run import Run
from trainer_backend.runs.target import run_target
from trainer_backend.tokens.chat_template import FixedDate
from trainer_backend.tokens.training_rows import training_row

WHAT = "Evaluating"  # what the page shows as the progress
ROWS = 40  # asked if nobody says how many
LOSS_SHARE = 0.25  # of the time of answering a row: what reading all rows for the loss counts as
LAST_STEPS = 10  # of training, whose mean loss stands for it


@dataclass(frozen=True)
class Task:
    """What is evaluated: the rows of a dataset, asked and read as a run does.

    `at` are the places (int64) in `stored` of all rows, `asked` how many of them are asked,
    `wanted` the names of measures (none: those that fit; None: nothing is asked), `positions` the
    most tokens that the model has positions for (None: no limit).
    """

    run: Run
    recipe: Recipe
    stored: StoredDataset
    at: np.ndarray
    step: int
    asked: int
    wanted: tuple[str, ...] | None = ()
    held_out: bool = True
    notes: tuple[str, ...] = ()
    positions: int | None = None

    @property
    def asks(self) -> bool:
        """Whether questions are asked: plain text has none."""
        return self.stored.format != "text" and self.wanted is not None and self.asked > 0


@dataclass
class Tally:
    """Tells how far an evaluation is: “base model, 12 of 40 answers”."""

    progress: Progress
    answers: int  # of each model
    groups: int  # of rows with one loss, of each model
    side: str = ""
    _before: float = field(default=0.0, init=False)  # units of what is done

    @property
    def _loss_units(self) -> float:
        return max(1.0, LOSS_SHARE * self.answers)

    def tell_loss(self, done: int) -> None:
        """So many groups of rows have been read for the loss."""
        words = f"{self.side} model, loss of {done} of {self.groups} parts"
        self._tell(self._loss_units * done / max(1, self.groups), words)

    def tell_answers(self, done: int) -> None:
        """So many answers of this model are there."""
        units = self._loss_units + done if self.groups else float(done)
        self._tell(units, f"{self.side} model, {done} of {self.answers} answers")

    def end_side(self) -> None:
        """This model is done."""
        self._before = self._side_units

    @property
    def _side_units(self) -> float:
        return self.answers + (self._loss_units if self.groups else 0.0)

    def _tell(self, units: float, words: str) -> None:
        whole = 2 * self._side_units
        self.progress(WHAT, round(self._before + units, 1), round(whole, 1), "answers", words)


def evaluate_run(
    run: Run,
    *,
    rows: int | None = None,
    dataset: str | None = None,
    checkpoint: int | str | None = None,
    metrics: str | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate a run or one of its checkpoints, on its held-out rows or any stored dataset.

    `rows` are asked at most (None: as many as the run's settings say, or 40), `dataset` is the id
    of a stored one, `checkpoint` a step, “best” or “last” (None: the run's result), `metrics` names
    with commas, or “auto” (None: as the run's settings say). The result is kept with the run.
    Raises UserError where there is no checkpoint, no row, no dataset or no base model any more, and
    what `progress` raises, to stop it.
    """
    chosen = checkpoint_of(run, checkpoint)
    task = _task(run, chosen.step, rows, dataset, metrics)
    target = run_target(run, chosen.step)
    sides, folder = open_sides(run.home, target, progress)
    template = task.recipe.chat_template
    saved = (chosen.path / "tokenizer_config.json").exists()
    processing = load_processing(chosen.path) if saved else load_processing(folder, template)
    with tempfile.TemporaryDirectory() as scratch:
        read = prepared_rows(run, task.recipe, task.stored, task.at, processing, folder, scratch)
        config: dict[str, Any] = read_json(folder / "config.json", {})
        most = last_position(config)
        task = replace(task, notes=(*task.notes, *read.notes), positions=most)
        evaluation, _ = evaluate_models(task, sides, read.rows, processing, progress)
    keep(run, evaluation)
    return evaluation


def checkpoint_of(run: Run, wanted: int | str | None) -> Checkpoint:
    """The checkpoint of a step (also as text), “best”, “last”, or the run's result.

    Raises UserError if there is none.
    """
    kept = run.checkpoints()
    if not kept:
        raise UserError(
            "This run has no checkpoint yet.", run.name(), "Wait for the first checkpoint."
        )
    text = str(wanted).strip().lower() if wanted is not None else ""
    found = {"": run.result(), "last": kept[-1], "best": best_of(kept) or kept[-1]}
    chosen = found.get(text) or next((one for one in kept if str(one.step) == text), None)
    if chosen is None:
        steps = ", ".join(str(one.step) for one in kept)
        raise UserError(
            f"There is no checkpoint “{text[:40]}”.",
            run.name(),
            f"Choose one of the steps {steps}, “best” or “last”.",
        )
    return chosen


def _task(run: Run, step: int, rows: int | None, dataset: str | None, metrics: str | None) -> Task:
    recipe = run.recipe()
    wanted = parse_metrics(recipe.eval_metrics if metrics is None else metrics)
    asked = (recipe.answer_check_rows or ROWS) if rows is None else rows
    if asked < 1:
        raise UserError("No row is asked for.", label("answer_check_rows"), "Ask for at least 1.")
    own = dataset is None or dataset == run.spec()["dataset"]["id"]
    stored = _own_dataset(run) if dataset is None else open_dataset(run.home, dataset)
    at = np.asarray(stored.split(recipe.eval_fraction, recipe.seed)[1] if own else [], np.int64)
    notes: tuple[str, ...] = ()
    if not own:
        at = np.arange(stored.num_examples, dtype=np.int64)
        most = max(MOST_LOSS_ROWS, asked)
        if len(at) > most:
            notes = (f"Loss and perplexity are over {most:,} of {len(at):,} rows.",)
            at = spread(at, most)
    if not len(at):
        what = "This run holds no rows out" if own else "This dataset has no rows"
        fix = "Give a dataset to evaluate on, or hold rows out in the next run."
        raise UserError(f"{what}: there is nothing to evaluate on.", stored.name, fix)
    return Task(run, recipe, stored, at, step, asked, wanted, own, notes)


def _own_dataset(run: Run) -> StoredDataset:
    try:
        return run.dataset()
    except UserError as error:
        raise UserError(
            "The data of this run is gone, and with it the held-out rows.",
            run.spec()["dataset"]["name"],
            f"Give another dataset to evaluate on. {error.what}",
        ) from error


def evaluate_models(
    task: Task,
    sides: Sides,
    held_out: HeldOutRows | None,
    processing: Processing,
    progress: Progress,
) -> tuple[Evaluation, Scored]:
    """Evaluate loaded models; `held_out` are the rows of the loss, as a trainer reads them.

    Nothing is kept. Raises RuntimeError or MemoryError without memory for a single row, and what
    `progress` raises.
    """
    began = time.monotonic()
    ready, notes = _questions(task, processing) if task.asks else ([], [])
    groups = len(held_out.groups()) if held_out else 0
    tally = Tally(progress, len(ready), groups)
    limits = limits_of(ready, task.positions)
    answers: dict[str, list[Answer]] = {}
    losses: dict[str, list[GroupLoss]] = {}
    for which, side in (("base", sides.base), ("tuned", sides.tuned)):
        tally.side = which
        with side() as model:
            if held_out is not None and groups:
                losses[which] = held_out.losses(model, tally.tell_loss)
            answers[which] = _answers(model, processing, ready, limits, tally.tell_answers)
        tally.end_side()
    found = scored(ready, answers, losses, task.wanted or (), learning_of(task.run, task.step))
    said = [*task.notes, *_said(task, found, ready, limits), *notes]
    return _evaluation(task, found, said, time.monotonic() - began), found


def _evaluation(task: Task, found: Scored, notes: list[str], seconds: float) -> Evaluation:
    return Evaluation(
        run=task.run.id,
        checkpoint=task.step,
        rows=len(found.rows) or len(task.at),
        metrics=found.metrics,
        verdict=found.verdict.verdict,
        main=found.main,
        sentence=found.verdict.sentence,
        warnings=found.verdict.warnings,
        notes=notes,
        examples=found.rows,
        dataset_id=task.stored.id,
        dataset=task.stored.name,
        held_out=task.held_out,
        seconds=round(seconds, 2),
    )


def asked_with(run: Run, recipe: Recipe) -> AskedWith:
    """What rows are asked with besides their own tools and pictures: as in training."""
    day = date.fromtimestamp(run.spec()["created_at"]).isoformat()
    dated = {"strftime_now": FixedDate(day)}
    return AskedWith((), recipe.thinking, recipe.control_tokens, dated)


def _questions(task: Task, processing: Processing) -> tuple[list[Ready], list[str]]:
    """The questions of the rows that are asked, and notes on those left out."""
    at = spread(task.at, task.asked)
    numbers = task.stored.row_numbers()[at].tolist()
    settings = asked_with(task.run, task.recipe)
    found = [
        question(training_row(one, task.recipe.system_prompt, task.stored), settings, number)
        for one, number in zip(task.stored.examples(at.tolist()), numbers, strict=True)
    ]
    return ready_questions(found, numbers, processing, task.stored, task.positions)


def last_position(config: dict[str, Any]) -> int | None:
    """The most tokens that a model with a table of positions reads; None for other models."""
    found = positions_of(config)
    return found.most if found and found.fixed else None


def limits_of(ready: Sequence[Ready], positions: int | None) -> list[int]:
    """The most new tokens of each answer."""
    limit = answer_limit([one.tokens for one in ready])
    if positions is None:
        return [limit] * len(ready)
    return [min(limit, positions - len(one.prompt.ids)) for one in ready]


def sample_questions(task: Task, processing: Processing) -> list[Ready]:
    """A few questions of text alone, to be asked again and again."""
    ready, _ = _questions(task, processing)
    return [one for one in ready if not one.prompt.images]


def _answers(
    model: AnyModel,
    processing: Processing,
    ready: Sequence[Ready],
    limits: Sequence[int],
    done: Callable[[int], None],
) -> list[Answer]:
    """What a model answers: texts many at a time, rows with images one by one."""
    tokenizer = tokenizer_of(processing)
    found: dict[int, Answer] = {}
    texts = [at for at, one in enumerate(ready) if not one.prompt.images]
    prompts, most = [ready[at].prompt.ids for at in texts], [limits[at] for at in texts]
    written = write_answers(model, tokenizer, prompts, most, done)
    for at, one in zip(texts, written, strict=True):
        answer = ready[at].prompt.read(answer_text(one, tokenizer))
        found[at] = replace(answer, cut=one.cut)
    for at in sorted({*range(len(ready))} - found.keys()):
        assert isinstance(processing, ProcessorMixin)  # others are left out
        prompt = ready[at].prompt
        text = answer_seen(model, processing, prompt.text, prompt.images, limits[at])
        tokens = len(tokenizer(text, add_special_tokens=False).input_ids)
        found[at] = replace(prompt.read(text), cut=tokens >= limits[at])
        done(len(found))
    return [found[at] for at in range(len(ready))]


def _said(task: Task, found: Scored, ready: list[Ready], limits: list[int]) -> list[str]:
    """What was chosen and how many rows were asked, in words."""
    notes = [found.why] if found.why else []
    if task.asks and len(ready) < len(task.at):
        kind = "held-out rows" if task.held_out else "rows"
        notes.append(
            f"{len(ready)} of {len(task.at):,} {kind} were asked, spread over all of them."
        )
    cut = {
        which: sum("cut" in one.marks.get(which, {}) for one in found.rows)
        for which in ("base", "tuned")
    }
    if any(cut.values()):
        notes.append(
            f"Answers end after {max(limits):,} tokens, room for 19 of 20 expected ones: cut there "
            f"are {cut['base']} of the base model and {cut['tuned']} of the tuned one."
        )
    if not task.asks and task.stored.format == "text":
        notes.append("Plain text has no answers to ask for: only the loss is compared.")
    return notes


def learning_of(run: Run, step: int) -> Learning:
    """What the run's log says of its losses up to a step."""
    rows = [row for row in run.metrics() if row["step"] <= step]
    train = [
        row["loss"] for row in rows if row["type"] == "metrics" and row.get("loss") is not None
    ]
    held = [
        (int(row["step"]), float(row["eval_loss"]))
        for row in rows
        if row["type"] == "eval" and _is_number(row, "eval_loss")
    ]
    last = train[-LAST_STEPS:]
    return Learning(sum(last) / len(last) if last else None, held)


def _is_number(row: dict[str, Any], name: str) -> bool:
    return isinstance(row.get(name), int | float)
