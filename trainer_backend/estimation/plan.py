"""The work of a run in numbers: steps, tokens of a batch, evaluations, saves, answers.

Rows are chosen, cut, packed and batched as the trainer does it. Memory and time are not known here.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainer_backend.data.store import StoredDataset
from trainer_backend.estimation.lengths import RowLengths
from trainer_backend.evaluation.limits import (
    MOST_ANSWER_TOKENS,
    answer_limit,
    rows_in_group,
    spread,
)
from trainer_backend.recipe import Recipe
from trainer_backend.tokens.packing import LENGTHS, SHORTEST, best_fit_bins, filled_length

PACKED_AT_ONCE = 1_000  # rows that the trainer packs together
MOST_PACKED = 60  # of such groups: of more rows some are packed, and the rest counted like them
DEVIATIONS = 2.5  # above the mean, of the largest batch that a run draws
_splits: OrderedDict[Any, tuple[np.ndarray, np.ndarray]] = OrderedDict()
_kept: OrderedDict[Any, "Batches"] = OrderedDict()
MAX_KEPT, MAX_CUTS = 64, 4


@dataclass(frozen=True)
class Plan:
    """Counts of one run. Tokens are positions that the model reads, after cutting and packing."""

    rows: int  # training rows that are learned
    steps: int  # optimizer steps
    micro_batches: int  # of one optimizer step, on one device
    step_tokens: float  # mean tokens of one optimizer step, on all devices
    step_trained: float  # of these: learned
    row_tokens: float  # of the row that a token is in, on average (attention grows with it)
    longest_row: int  # tokens
    longest_batch: int  # tokens of the largest micro-batch, on one device
    longest_trained: int  # of these: learned
    eval_runs: int
    eval_tokens: int  # of one evaluation
    eval_trained: int
    saves: int
    answer_rows: int  # of the evaluation at the end, each answered by base and tuned model
    answer_tokens: float  # mean tokens of an expected answer
    prompt_tokens: float
    longest_answer: int = 0  # tokens of the longest expected answer; 0: not known
    drawn_batch: int = 0  # tokens of the largest micro-batch that a run is likely to draw
    eval_batch: int = 0  # tokens of the largest batch of held-out rows
    eval_learned: int = 0  # of these: learned
    filler: float = 0.0  # mean tokens of one optimizer step that only fill rows, beside step_tokens
    answer_limit: int = 0  # the most tokens of an answer
    loss_groups: int = 0  # parts in which the evaluation at the end reads the held-out rows

    @property
    def tokens(self) -> int:
        """Tokens of the whole training."""
        return round(self.step_tokens * self.steps)


@dataclass(frozen=True)
class Batches:
    """One pass over a set of rows."""

    rows: int  # rows that are learned
    packed: int  # rows after packing
    tokens: int  # positions read, padding included
    trained: int
    row_tokens: float  # of the row that a token is in, on average
    longest_row: int
    longest_batch: int
    longest_trained: int
    drawn_batch: int  # tokens of a large batch of rows drawn at random
    sampled: bool = False  # packing was tried on some of the rows
    filler: float = 0.0  # filler by tokens read, where rows are filled to few lengths


NOTHING = Batches(0, 0, 0, 0, 0.0, 0, 0, 0, 0)


def plan_run(
    recipe: Recipe,
    dataset: StoredDataset,
    lengths: RowLengths,
    *,
    devices: int = 1,
    packs: bool = True,
    fills: bool = False,
) -> tuple[Plan, list[str]]:
    """The plan of a run on a stored dataset, and notes.

    `packs`: packed examples are kept apart. `fills`: joined rows are filled to few lengths.
    """
    train_at, held_at = _split(dataset, recipe.eval_fraction, recipe.seed)
    names = [f"{dataset.dir} {dataset.hash} {lengths.key} {part}" for part in ("train", "eval")]
    train = _batches(recipe, lengths, names[0], train_at, packs)
    held = _batches(recipe, lengths, names[1], held_at, packs)
    steps = steps_of(recipe, train.packed, devices)
    plan = _counts(recipe, train, held, steps, devices)
    plan = replace(plan, **_at_the_end(recipe, held), **_answers(recipe, dataset, lengths, held_at))
    plan = filled(plan, train.filler) if fills and packs else plan
    return plan, _notes(recipe, lengths, train, train_at, packs)


def filled(plan: Plan, share: float) -> Plan:
    """The plan with rows that are filled: `share` is the filler by the tokens that are read."""
    return replace(
        plan,
        longest_batch=filled_length(plan.longest_batch) if plan.longest_batch else 0,
        drawn_batch=filled_length(plan.drawn_batch) if plan.drawn_batch else 0,
        filler=plan.step_tokens * share,
    )


def filler_share(rows: np.ndarray, at_once: int) -> float:
    """Filler by tokens where so many rows of these tokens (int64) are joined and filled."""
    joined = np.add.reduceat(rows, np.arange(0, len(rows), at_once))
    exponents = np.frexp(joined)[1].astype(np.int64) - 1
    steps = np.maximum(SHORTEST, (1 << np.maximum(exponents, 0)) // LENGTHS)
    return float((-joined % steps).sum() / max(1, joined.sum()))


def _split(
    dataset: StoredDataset, eval_fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The split of a dataset, kept for the next call: duplicates are looked for once."""
    key = (str(dataset.dir), dataset.hash, eval_fraction, seed)
    if key not in _splits:
        _splits[key] = dataset.split_arrays(eval_fraction, seed)
        while len(_splits) > MAX_CUTS:
            _splits.popitem(last=False)
    return _splits[key]


def unknown_rows(recipe: Recipe) -> Plan:
    """The plan without data: full rows of the maximum length, and no known steps but max_steps."""
    length, batch = recipe.max_length, recipe.per_device_train_batch_size
    micro = recipe.gradient_accumulation_steps
    return Plan(
        rows=0,
        steps=max(recipe.max_steps, 0),
        micro_batches=micro,
        step_tokens=float(length * batch * micro),
        step_trained=float(length * batch * micro),
        row_tokens=float(length),
        longest_row=length,
        longest_batch=length * batch,
        longest_trained=length * batch,
        eval_runs=0,
        eval_tokens=0,
        eval_trained=0,
        saves=1,
        answer_rows=0,
        answer_tokens=0.0,
        prompt_tokens=0.0,
        drawn_batch=length * batch,
    )


def steps_of(recipe: Recipe, rows: int, devices: int = 1) -> int:
    """Optimizer steps of a run on rows that are packed already."""
    if recipe.max_steps > 0:
        return recipe.max_steps
    if not rows:
        return 0
    batches = math.ceil(rows / (recipe.per_device_train_batch_size * devices))
    per_epoch = max(1, math.ceil(batches / recipe.gradient_accumulation_steps))
    return math.ceil(per_epoch * recipe.num_train_epochs)


def times_of(interval: float, steps: int) -> int:
    """How often something happens every `interval` steps (below 1: a share of the run; 0: at the
    end only); the last step always counts."""
    if steps <= 0:
        return 0
    every = steps if not interval else int(interval) if interval >= 1 else interval * steps
    return math.ceil(steps / max(1, math.ceil(every)))


def _counts(recipe: Recipe, train: Batches, held: Batches, steps: int, devices: int) -> Plan:
    size, micro = recipe.per_device_train_batch_size, recipe.gradient_accumulation_steps
    per_epoch = steps_of(replace(recipe, max_steps=-1, num_train_epochs=1.0), train.packed, devices)
    batches = math.ceil(train.packed / (size * devices)) if train.packed else 0
    evaluates, full = held.rows > 0, size * devices * micro / max(train.packed, 1)
    passes, rest = divmod(steps, max(per_epoch, 1))
    seen = passes + min(1.0, rest * full)  # passes over the rows; the last step of one is smaller
    return Plan(
        rows=train.rows,
        steps=steps,
        micro_batches=min(micro, max(batches, 1)),
        step_tokens=train.tokens * seen / max(steps, 1),
        step_trained=train.trained * seen / max(steps, 1),
        row_tokens=train.row_tokens,
        longest_row=max(train.longest_row, held.longest_row),
        longest_batch=max(train.longest_batch, 0),
        longest_trained=train.longest_trained,
        eval_runs=times_of(recipe.eval_steps, steps) if evaluates else 0,
        eval_tokens=held.tokens,
        eval_trained=held.trained,
        saves=times_of(recipe.save_steps, steps),
        answer_rows=0,
        answer_tokens=0.0,
        prompt_tokens=0.0,
        drawn_batch=train.drawn_batch,
        eval_batch=held.longest_batch,
        eval_learned=held.longest_trained,
    )


def _at_the_end(recipe: Recipe, held: Batches) -> dict[str, int]:
    if not recipe.answer_check_rows or not held.rows:
        return {}
    size = rows_in_group(held.packed, recipe.per_device_train_batch_size)
    return {"loss_groups": math.ceil(held.packed / size)}


def _answers(
    recipe: Recipe, dataset: StoredDataset, lengths: RowLengths, held_at: np.ndarray
) -> dict[str, Any]:
    chosen = spread(held_at, recipe.answer_check_rows)
    if not len(chosen) or dataset.format == "text":
        return {}
    answers = np.minimum(lengths.trained[chosen], MOST_ANSWER_TOKENS)
    prompts = np.maximum(lengths.end[chosen] - lengths.trained[chosen], 0)
    return {
        "answer_rows": len(chosen),
        "answer_tokens": float(answers.mean()),
        "prompt_tokens": float(prompts.mean()),
        "longest_answer": int(answers.max()),
        "answer_limit": answer_limit(answers),
    }


def _batches(
    recipe: Recipe, lengths: RowLengths, name: str, at: np.ndarray, packs: bool
) -> Batches:
    """The batches of a part of the rows; kept for the next call with the same settings.

    `name` names the rows and their lengths.
    """
    size = recipe.per_device_train_batch_size
    packing = recipe.packing and packs
    split = (recipe.eval_fraction, recipe.seed, name)
    cutting = (recipe.max_length, recipe.truncation_mode, packing, packs)
    key = (split, len(at), size, *cutting)
    if key not in _kept:
        _kept[key] = _made(recipe, lengths, name, at, packing, packs)
        while len(_kept) > MAX_KEPT:
            _kept.popitem(last=False)
    return _kept[key]


def _made(
    recipe: Recipe, lengths: RowLengths, name: str, at: np.ndarray, packing: bool, joins: bool
) -> Batches:
    total, trained = _cut_once(recipe, lengths, name, at, packing)
    if not len(total):
        return NOTHING
    size, sampled, longest_row = recipe.per_device_train_batch_size, False, int(total.max())
    rows, tokens = len(total), int(total.sum())
    packed, learned = rows, int(trained.sum())
    seen = float(np.square(total, dtype=np.float64).sum() / max(1, tokens))
    if packing:
        total, trained, sampled = _packed(total, trained, recipe.max_length)
        packed = len(total)
        if sampled:
            packed = math.ceil(packed * tokens / max(1, int(total.sum())))
    elif not joins:
        tokens = _padded(total, size)
    width = min(size, len(total))
    most = np.argpartition(-total, width - 1)[:width]
    longest = int(total[most].sum()) if joins else int(total[most].max()) * width
    drawn = float(total.mean()) * width + DEVIATIONS * float(total.std()) * math.sqrt(width)
    return Batches(
        rows=rows,
        packed=packed,
        tokens=tokens,
        trained=learned,
        row_tokens=seen,
        longest_row=longest_row,
        longest_batch=longest,
        longest_trained=int(trained[most].sum()),
        drawn_batch=min(longest, math.ceil(drawn)),
        sampled=sampled,
        filler=filler_share(total, size) if joins else 0.0,
    )


_last_cut: OrderedDict[Any, tuple[np.ndarray, np.ndarray]] = OrderedDict()


def _cut_once(
    recipe: Recipe, lengths: RowLengths, name: str, at: np.ndarray, packing: bool
) -> tuple[np.ndarray, np.ndarray]:
    """_cut(), kept for the next call: other batch sizes need the same rows."""
    split = (recipe.eval_fraction, recipe.seed, name, len(at))
    key = (*split, recipe.max_length, recipe.truncation_mode, packing)
    if key not in _last_cut:
        _last_cut[key] = _cut(recipe, lengths, at, packing)
        while len(_last_cut) > MAX_CUTS:
            _last_cut.popitem(last=False)
    return _last_cut[key]


def _cut(
    recipe: Recipe, lengths: RowLengths, at: np.ndarray, packing: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(tokens, learned tokens) of the rows that are trained, after cutting them."""
    limit, usable = recipe.max_length, lengths.usable[at]
    total, first = lengths.total[at], lengths.first[at]
    end, trained = lengths.end[at], lengths.trained[at]
    over = np.maximum(total - limit, 0)
    if recipe.truncation_mode == "keep_end" and not packing:
        left = np.clip(end - np.maximum(first, over), 0, None)
    else:
        left = np.clip(np.minimum(end, limit) - first, 0, None)
    span = np.maximum(end - first, 1)
    kept = np.where(left >= span, trained, np.rint(trained * (left / span)))
    teaches = (trained > 0) & (kept > 0) if not packing else trained > 0
    usable = usable & teaches
    return np.minimum(total, limit)[usable], kept[usable].astype(np.int64)


def _packed(
    total: np.ndarray, trained: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray, bool]:
    """(tokens, learned tokens) of packed rows, and whether only some of the rows were packed."""
    starts = list(range(0, len(total), PACKED_AT_ONCE))
    sampled = len(starts) > MOST_PACKED
    if sampled:
        starts = starts[:: math.ceil(len(starts) / MOST_PACKED)]
    sums, learned = [], []
    for start in starts:
        part = slice(start, start + PACKED_AT_ONCE)
        lengths, labels = total[part], trained[part]
        for one in best_fit_bins(lengths.tolist(), limit):
            sums.append(int(lengths[one].sum()))
            learned.append(int(labels[one].sum()))
    return np.array(sums, np.int64), np.array(learned, np.int64), sampled


def _padded(total: np.ndarray, size: int) -> int:
    """Positions of padded batches whose rows have similar lengths."""
    ordered = np.sort(total)[::-1]
    return sum(int(ordered[at]) * len(ordered[at : at + size]) for at in range(0, len(total), size))


def _notes(
    recipe: Recipe, lengths: RowLengths, train: Batches, at: np.ndarray, packs: bool
) -> list[str]:
    notes = list(lengths.notes)
    if recipe.packing and not packs:
        notes.append("This model cannot keep packed examples apart: batches are padded instead.")
    if train.sampled:
        notes.append("Only some of the many rows were packed for this: steps may be off by 1 %.")
    lost = len(at) - train.rows
    if not train.rows:
        notes.append("No row is left to learn: the maximum length cuts every answer away.")
    elif lost > 0 and not lengths.spread:
        some = "1 row has" if lost == 1 else f"{lost:,} rows have"
        notes.append(f"{some} nothing left to learn after cutting and will be left out.")
    return notes
