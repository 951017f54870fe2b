"""Training on corrections without forgetting: a mix of them with old training rows.

A model trained on new rows alone forgets the old ones; old rows among the new prevent it (Robins
1995, “Catastrophic forgetting, rehearsal and pseudorehearsal”), and a random choice of few is
enough (Scialom et al. 2022, arXiv 2205.12393). Held-out rows of the run stay held out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer_backend.corrections.correction import MAPPING, keys_of
from trainer_backend.corrections.kept import CORRECTIONS, Kept, kept_for, subject_of
from trainer_backend.data.formats import ColumnMapping, Example, with_system
from trainer_backend.data.store import StoredDataset, open_dataset
from trainer_backend.data.store.build import Plan, build
from trainer_backend.data.store.dataset import MixPart
from trainer_backend.data.store.fingerprint import dataset_id
from trainer_backend.data.store.mixes import mixed_row
from trainer_backend.data.store.pages import NumberedRow
from trainer_backend.errors import UserError
from trainer_backend.recipe import Recipe
from trainer_backend.runs import Run, new_run_from

ENOUGH = 5  # corrections from which training on them is offered
SHARE = 0.25  # of the rows: corrections; the rest are old rows
MOST_TIMES = 4  # how often a correction is repeated, so that old rows of more kinds come with it
EPOCHS = 3
MOST_AT_ONCE = 8  # rows of a step: the mix is small, and needs some dozens of steps
WHERE = "Train on these too"


@dataclass(frozen=True)
class OldRows:
    """The rows that a run was trained on, corrections apart: indices into `dataset`.

    `system_prompt` is the text that the run's settings put before rows without one.
    """

    dataset: StoredDataset
    train: np.ndarray
    held_out: np.ndarray
    system_prompt: str = ""


@dataclass(frozen=True)
class Replay:
    """What a run from these weights would be trained on.

    `times` is how often each correction is repeated, `chosen` the old rows that come with them
    (indices), `corrected` the held-out rows (their numbers) whose question was corrected, and
    `left_out` the number of old training rows not used because their answer was corrected.
    """

    run: Run
    kept: Kept
    old: OldRows
    times: int
    chosen: list[int]
    corrected: list[int]
    left_out: int

    @property
    def corrections(self) -> int:
        """How many corrections are trained on."""
        return len(self.kept.corrections)

    def recipe(self) -> Recipe:
        """The settings of the run, for a mix of this size."""
        before = self.run.recipe()
        at_once = min(before.per_device_train_batch_size, MOST_AT_ONCE)
        gathered = min(before.gradient_accumulation_steps, MOST_AT_ONCE // at_once)
        changes = {
            "num_train_epochs": float(EPOCHS),
            "max_steps": -1,
            "packing": False,
            "per_device_train_batch_size": at_once,
            "gradient_accumulation_steps": max(1, gathered),
            # the evaluation says what became of the corrections
            "answer_check_rows": before.answer_check_rows or Recipe().answer_check_rows,
        }
        explicit = {"system_prompt": ""} if self.is_explicit else {}
        return Recipe.from_dict({**before.to_dict(), **changes, **explicit}, WHERE)

    @property
    def is_explicit(self) -> bool:
        """Whether the system text moves from the settings into the rows.

        So it does when a correction was asked without any, which training would else add.
        """
        asked = (one.messages[0]["role"] for one in self.kept.corrections)
        return bool(self.old.system_prompt) and any(role != "system" for role in asked)

    def sentences(self) -> list[str]:
        """What Start would do, with its numbers."""
        count, new = self.corrections, self.corrections * self.times
        rows, recipe = new + len(self.chosen), self.recipe()
        step = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps
        steps = EPOCHS * -(-rows // step)
        often = f", each {self.times} times," if self.times > 1 else ""
        said = [
            f"A new run from these weights learns {_counted(count, 'correction')}{often} and "
            f"{len(self.chosen):,} of the {len(self.old.train):,} old training rows, so that it "
            f"does not forget them: {rows:,} rows, {new / rows:.0%} of them corrections, "
            f"{EPOCHS} epochs, about {steps:,} steps.",
        ]
        if self.left_out:
            said.append(f"{_counted(self.left_out, 'old row')} left out: you corrected the answer.")
        if len(self.old.held_out):
            said.append(self._about_held_out())
        return said

    def _about_held_out(self) -> str:
        count, corrected = len(self.old.held_out), len(self.corrected)
        said = f"The {_counted(count, 'held-out row')} of this run stay held out."
        if not corrected:
            return said
        words = _counted(corrected, "of them was", "of them were")
        return f"{said} {words} corrected and so will be trained on; the result tells them apart."


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def old_rows(run: Run) -> OldRows:
    """The rows of a run without corrections that it was trained on already.

    Raises UserError if its data was deleted.
    """
    dataset, recipe = run.dataset(), run.recipe()
    mixed = dataset.source.get(CORRECTIONS) or {}
    prompt = recipe.system_prompt
    fraction, seed = recipe.eval_fraction, recipe.seed
    if "old" in mixed:  # trained on corrections before: back to the rows below them
        dataset = open_dataset(run.home, str(mixed["old"]))
        fraction, seed = float(mixed["eval_fraction"]), int(mixed["seed"])
        prompt = str(mixed["system_prompt"])
    train, held_out = dataset.split_arrays(fraction, seed)
    return OldRows(dataset, train, held_out, prompt)


def plan_replay(run: Run) -> Replay:
    """What “Train on these too” would do with a run.

    Raises UserError without corrections, for plain text, and for data that is gone.
    """
    kept, old = kept_for(run), old_rows(run)
    if not kept.corrections:
        what = "No correction is kept for the data of this run."
        raise UserError(what, run.name(), "Correct a wrong answer first.")
    if old.dataset.format == "text":
        what = "This run was trained on plain text, which cannot be mixed with conversations."
        raise UserError(what, old.dataset.name, "Train on conversations, or on the data alone.")
    keys = {one.key for one in kept.corrections}
    count = len(kept.corrections)
    wanted = len(old.train) * SHARE / (1 - SHARE) / count
    times = min(MOST_TIMES, max(1, round(wanted)))
    size = round(count * times * (1 - SHARE) / SHARE)
    chosen, left_out = _chosen(old, size, keys, run.recipe().seed)
    corrected = [
        one.row
        for one in old.dataset.examples(old.held_out.tolist())
        if keys.intersection(keys_of(one, old.system_prompt))
    ]
    return Replay(run, kept, old, times, chosen, corrected, left_out)


def _chosen(old: OldRows, size: int, keys: set[str], seed: int) -> tuple[list[int], int]:
    """`size` old training rows drawn at random, none whose question was corrected, ascending."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(old.train)
    chosen: list[int] = []
    at = left_out = 0
    while len(chosen) < size and at < len(order):
        drawn = sorted(order[at : at + size - len(chosen)].tolist())
        at += len(drawn)
        examples = zip(drawn, old.dataset.examples(drawn), strict=True)
        fits = [i for i, one in examples if not keys.intersection(keys_of(one, old.system_prompt))]
        left_out += len(drawn) - len(fits)
        chosen += fits
    return sorted(chosen), left_out


def replay_dataset(replay: Replay) -> StoredDataset:
    """The mix: corrections and old rows interleaved at random, then the old held-out rows."""
    old, corrections = replay.old, replay.kept.dataset
    assert corrections is not None  # plan_replay has refused it otherwise
    recipe = replay.run.recipe()
    parts: list[MixPart] = [
        _part(corrections, replay.corrections, replay.corrections * replay.times),
        _part(old.dataset, len(old.train), len(replay.chosen)),
    ]
    size = sum(part["rows"] for part in parts)
    about: dict[str, Any] = {
        "of": subject_of(replay.run.dataset()),
        "name": old.dataset.name,
        "dataset_id": corrections.id,
        "run": replay.run.id,
        "old": old.dataset.id,
        **_split_of(replay),
        "system_prompt": old.system_prompt,
        "corrected": [size + 1 + at for at in _places(replay)],
    }
    extra: dict[str, Any] = {
        "step": "mix",
        "parts": parts,
        "done": " ".join(replay.sentences()),
        "source": {"mix": parts, CORRECTIONS: about},
    }
    if len(old.held_out):
        name = f"the held-out rows of {old.dataset.name}"
        extra["held_out"] = {"dataset_id": old.dataset.id, "name": name, "row": size + 1}
    both = [corrections, old.dataset]
    rows = _mixed(replay)
    plan = Plan(
        name=f"{old.dataset.name} with {_counted(replay.corrections, 'correction')}",
        content=dataset_id({"replay": about, "rows": replay.chosen, "seed": recipe.seed}),
        num_bytes=sum(one.num_bytes for one in both),
        mapping=_mapping(rows),
        kinds=("mix",),
        image_folders=tuple(one.dir for one in both),
        extra=extra,
    )
    return build(replay.run.home, rows, plan)


def _mapping(rows: Sequence[NumberedRow]) -> ColumnMapping:
    columns = {name for _, row in rows for name in row}
    roles: dict[str, str] = {one: one for one in MAPPING.roles if one in columns}
    return ColumnMapping("messages", roles)


def _part(dataset: StoredDataset, size: int, rows: int) -> MixPart:
    name, weight = dataset.name, float(rows)
    return {"dataset_id": dataset.id, "name": name, "weight": weight, "size": size, "rows": rows}


def _split_of(replay: Replay) -> dict[str, Any]:
    """The share and seed of the old split."""
    mixed = replay.run.dataset().source.get(CORRECTIONS) or {}
    recipe = replay.run.recipe()
    return {
        "eval_fraction": mixed.get("eval_fraction", recipe.eval_fraction),
        "seed": mixed.get("seed", recipe.seed),
    }


def _places(replay: Replay) -> list[int]:
    """Places of the corrected rows among the held-out ones, from 0."""
    numbers = replay.old.dataset.row_numbers()[replay.old.held_out].tolist()
    return [numbers.index(row) for row in replay.corrected]


def _mixed(replay: Replay) -> list[NumberedRow]:
    """Corrections and old rows in a random order, then the held-out rows in theirs."""
    corrections, old = replay.kept.dataset, replay.old
    assert corrections is not None
    prompt = old.system_prompt if replay.is_explicit else ""
    new = [mixed_row(corrections, one) for one in corrections.examples()] * replay.times
    rows = new + [_row(old.dataset, one, prompt) for one in old.dataset.examples(replay.chosen)]
    random = np.random.Generator(np.random.PCG64(replay.run.recipe().seed))
    mixed = [rows[at] for at in random.permutation(len(rows)).tolist()]
    held_out = old.dataset.examples(old.held_out.tolist())
    mixed += [_row(old.dataset, one, prompt) for one in held_out]
    return list(enumerate(mixed, start=1))


def _row(dataset: StoredDataset, example: Example, system_prompt: str) -> dict[str, Any]:
    row = mixed_row(dataset, example)
    if system_prompt:
        row["messages"] = with_system(row["messages"], system_prompt)
    return row


def train_on_corrections(run: Run, **more: Any) -> Run:
    """Create a run from the weights of `run` on its corrections and old rows.

    `more` are arguments of `create_run`. Raises UserError as plan_replay() and new_run_from() do.
    """
    replay = plan_replay(run)
    named = {
        "name": f"{run.name()[:90]} + {_counted(replay.corrections, 'correction')}",
        "preset": run.spec()["preset"],
    }
    given = {name: value for name, value in more.items() if value is not None}
    return new_run_from(run, replay.recipe(), replay_dataset(replay), **{**named, **given})
