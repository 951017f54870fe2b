"""Makes a blind test: its sides, its questions and the shuffled order of the answers.

Rows are held out from both models. Answers that an evaluation has kept are taken from it; the
others are asked later.
"""

import random
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from trainer_backend.comparison.blind.blind_test import (
    FIRST,
    SECOND,
    BlindTest,
    Question,
    Side,
)
from trainer_backend.data.formats import Example, is_trained
from trainer_backend.data.images import IMAGE_MARK
from trainer_backend.data.store import StoredDataset
from trainer_backend.errors import RowError, UserError
from trainer_backend.evaluation.results import Asked, Evaluation, evaluations_of
from trainer_backend.models.loaded.answer_parts import Answer, calls_of, read_answer
from trainer_backend.runs import run_target
from trainer_backend.runs.asking import asking_of
from trainer_backend.runs.run import Run

DEFAULT_ROWS, MOST_QUESTIONS = 20, 500
SEEDS = 2**32


@dataclass(frozen=True)
class Wanted:
    """What to ask: own prompts if there are any, else so many held-out rows."""

    rows: int = DEFAULT_ROWS
    prompts: Sequence[str] = field(default_factory=list)


def new_test(
    run: Run, against: Run | None = None, wanted: Wanted | None = None, seed: int | None = None
) -> BlindTest:
    """A blind test of a run's tuned model against its base model, or against another run's.

    `seed` decides which rows are asked, and the order. Nothing is generated or written. Raises
    UserError when a model has no checkpoint, or when there is nothing to ask.
    """
    wanted, seed = wanted or Wanted(), secrets.randbelow(SEEDS) if seed is None else seed
    if against is not None and against.dir == run.dir:
        raise UserError(
            "A run cannot be tested against itself.", run.name(), "Choose another run, or base."
        )
    own = [text.strip() for text in wanted.prompts if text.strip()]
    sides = (_side(run, own=bool(own)), _other_side(run, against, own=bool(own)))
    dice = random.Random(seed)
    if own:
        unique = list(dict.fromkeys(own))[:MOST_QUESTIONS]
        questions = [Question([{"role": "user", "content": text}]) for text in unique]
        dataset, notes = None, _left_of_prompts(len(own), len(unique))
    else:
        count = max(1, min(int(wanted.rows), MOST_QUESTIONS))
        found = HeldOutRows(run, against, sides, dice)
        questions, dataset, notes = found.take(count), found.dataset, found.notes
    test = BlindTest(run.id, sides, shuffle_sides(questions, dice), seed=seed, notes=notes)
    return replace(test, dataset_id=dataset.id, dataset=dataset.label) if dataset else test


def shuffle_sides(questions: list[Question], dice: random.Random) -> list[Question]:
    """The questions, half of them (rounded by chance) with the second side on the left."""
    half, rest = divmod(len(questions), 2)
    swapped = [True] * half + [False] * half + [dice.random() < 0.5] * rest
    dice.shuffle(swapped)
    return [replace(one, swapped=at) for one, at in zip(questions, swapped, strict=True)]


def _left_of_prompts(given: int, kept: int) -> list[str]:
    if given == kept:
        return []
    return [f"{given - kept:,} of {given:,} prompts are left out: repeated, or above the limit."]


def _side(run: Run, which: str = "tuned", own: bool = False) -> Side:
    """A side as it will be asked from now on. Raises UserError without a checkpoint."""
    run_target(run)  # raises
    result = run.result()
    assert result is not None
    recipe = run.recipe()
    asking = asking_of(run) if own else None
    return Side(
        *(run.id, run.name(), which, result.step),
        system=asking.system if asking else recipe.system_prompt,
        tools=asking.given if asking else [],
        thinking=recipe.thinking,
        control_tokens=recipe.control_tokens,
    )


def _other_side(run: Run, against: Run | None, own: bool) -> Side:
    return _side(against, own=own) if against else _side(run, "base", own)


@dataclass
class HeldOutRows:
    """The held-out rows that a test may ask, in a shuffled order."""

    run: Run
    against: Run | None
    sides: tuple[Side, Side]
    dice: random.Random
    dataset: StoredDataset | None = None
    notes: list[str] = field(default_factory=list)

    def take(self, count: int) -> list[Question]:
        """Up to `count` questions: answered ones first. Raises UserError if there is none."""
        try:
            self.dataset = self.run.dataset()
        except UserError:
            self.dataset = None
        seen = self._seen_by_other()
        known = self._with_pictures([one for one in self._kept() if one.row not in seen])
        self.dice.shuffle(known)
        found = known[:count]
        have = {one.row for one in known}
        for one in self._rows(seen) if len(found) < count else ():
            if one.row not in have:
                found.append(one)
            if len(found) == count:
                break
        if not found:
            raise UserError(
                "There is no held-out row with a question and an answer.",
                self.run.name(),
                "Ask prompts of your own instead.",
            )
        if len(found) < count:
            rows = "1 held-out row has" if len(found) == 1 else f"{len(found):,} held-out rows have"
            self.notes.append(f"Only {rows} a question to ask; {count:,} were wanted.")
        return found

    def _seen_by_other(self) -> set[int]:
        """Numbers of held-out rows that the other run was trained on; said in the notes."""
        if self.against is None or self.dataset is None:
            return set()
        try:
            trained, _ = self.against.split()
            theirs = _digests(self.against.dataset())[trained]
            _, held = self.run.split()
        except UserError:
            self.notes.append(
                "The data of the other run was deleted: it may have been trained on these rows."
            )
            return set()
        seen = np.isin(_digests(self.dataset)[held], theirs)
        if seen.any():
            rows = "1 held-out row is" if seen.sum() == 1 else f"{seen.sum():,} held-out rows are"
            self.notes.append(f"{rows} left out: the other run was trained on them.")
        return set(self.dataset.row_numbers()[held][seen].tolist())

    def _kept(self) -> list[Question]:
        """Questions whose answers of both sides an evaluation has kept."""
        mine = self._evaluation(self.run)
        if mine is None:
            return []
        if self.against is None:
            return [_of_kept(one, one.base, _mark(one, "base")) for one in mine.examples]
        theirs = self._evaluation(self.against)
        if theirs is None or theirs.dataset_id != mine.dataset_id:
            return []
        answers = {one.row: one for one in theirs.examples}
        return [
            _of_kept(one, answers[one.row].tuned, _mark(answers[one.row], "tuned"))
            for one in mine.examples
            if one.row in answers
        ]

    def _with_pictures(self, kept: list[Question]) -> list[Question]:
        """The questions with the pictures of their rows, which an evaluation does not keep."""
        rows = [one.row for one in kept if one.row is not None]
        examples = self.dataset.examples_of(rows) if self.dataset else {}
        pictured = {row: one for row, one in examples.items() if one.images}
        asked = {row: question_of(one) for row, one in pictured.items()}
        return [
            replace(one, images=found.images) if (found := asked.get(one.row or -1)) else one
            for one in kept
        ]

    def _evaluation(self, run: Run) -> Evaluation | None:
        """The newest evaluation of the tested checkpoint on held-out rows of the run's data."""
        step = next(side.checkpoint for side in self.sides if side.run == run.id)
        data = self.run.spec()["dataset"]["id"]
        return next(
            (
                one
                for one in evaluations_of(run)
                if one.held_out and one.checkpoint == step and one.dataset_id in ("", data)
            ),
            None,
        )

    def _rows(self, seen: set[int]) -> Iterator[Question]:
        """Held-out rows as questions that are still to be asked."""
        if self.dataset is None:
            return
        _, held = self.run.split()
        self.dice.shuffle(held)
        for start in range(0, len(held), DEFAULT_ROWS):
            part = list(self.dataset.examples(sorted(held[start : start + DEFAULT_ROWS])))
            self.dice.shuffle(part)
            for example in part:
                question = question_of(example)
                if question and example.row not in seen:
                    yield question


def _digests(dataset: StoredDataset) -> np.ndarray:
    """[examples]: one value for each example's content."""
    return pq.read_table(dataset.examples_path, columns=["digest"])["digest"].to_numpy()


def _mark(one: Asked, which: str) -> dict[str, Any]:
    return one.marks.get(which) or {}


def _of_kept(one: Asked, other: str, mark: dict[str, Any]) -> Question:
    """A question with the answers of an evaluation; the first side is the tuned model."""
    answers = {FIRST: _answer(one.tuned, _mark(one, "tuned")), SECOND: _answer(other, mark)}
    messages = one.messages or [{"role": "user", "content": one.prompt}]
    return Question(messages, one.row, one.tools, one.expected, answers=answers)


def _answer(text: str, mark: dict[str, Any]) -> Answer:
    return Answer(text, str(mark.get("reasoning") or ""), cut=bool(mark.get("cut")))


def question_of(example: Example) -> Question | None:
    """The last trained answer of an example as a question; None if there is none.

    Pictures of later messages are left out.
    """
    messages = example.messages or []
    answers = [at for at, one in enumerate(messages) if _is_answer(one)]
    if not answers or answers[-1] == 0:
        return None
    at = answers[-1]
    before, images = messages[:at], [str(one) for one in example.images or ()]
    marks = sum(str(one.get("content")).count(IMAGE_MARK) for one in before)
    return Question(
        [_plain(one) for one in before],
        example.row,
        list(example.tools or ()),
        expected_of(messages[at]).in_words(),
        images[:marks] if marks else images,
    )


def _is_answer(message: dict[str, Any]) -> bool:
    if message["role"] != "assistant" or not (message.get("content") or message.get("tool_calls")):
        return False
    try:
        return is_trained(message)
    except RowError:
        return False


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """A message without the marks that say whether it is learned."""
    kept = ("role", "content", "tool_calls", "tool_call_id", "name", "reasoning_content")
    return {name: message[name] for name in kept if message.get(name) is not None}


def expected_of(message: dict[str, Any]) -> Answer:
    """The answer of a row, taken apart."""
    content = message.get("content")
    plain = read_answer(content if isinstance(content, str) else "")
    reasoning = str(message.get("reasoning_content") or "") or plain.reasoning
    return Answer(plain.content, reasoning, calls_of(message))
