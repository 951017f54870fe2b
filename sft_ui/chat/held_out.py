"""Held-out rows to try: a question with everything that its row was trained with."""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft_ui.chat.conversation import SIDES, Talk, answer_of, last_answer
from trainer_backend.data.formats import Example
from trainer_backend.data.images import IMAGE_MARK
from trainer_backend.data.store import StoredDataset
from trainer_backend.errors import UserError
from trainer_backend.evaluation.measures import MEASURE_LABELS, choose_measures, score_answer
from trainer_backend.models.loaded.answer_parts import Answer, calls_of, read_answer
from trainer_backend.runs import Run

NUM_TRIED = 20  # held-out rows from which a question is chosen


@dataclass(frozen=True)
class HeldOut:
    """The first question of a row, its system text, tools and picture, and the row's answer."""

    question: str
    expected: Answer
    system: str = ""
    tools: list[Any] = field(default_factory=list)
    image: Path | None = None
    row: int | None = None  # its number in the file


def held_out_turn(run: Run) -> HeldOut:
    """A random held-out row's first question; its system text is the run's if it has none.

    Raises UserError when the run has no row that starts with a question and an answer.
    """
    _, held_out = run.split()
    dataset, system = run.dataset(), run.recipe().system_prompt
    tried = sorted(random.sample(held_out, min(NUM_TRIED, len(held_out))))
    rows = dataset.examples(tried)
    turns = [turn for one in rows if (turn := first_turn(one, dataset, system))]
    if not turns:
        raise UserError(
            "This run has no held-out row to try.",
            run.name(),
            "Hold out some rows in the Model tab, or type your own message. Rows with several "
            "pictures cannot be tried here.",
        )
    return random.choice(turns)


def first_turn(
    example: Example, dataset: StoredDataset | None = None, system_prompt: str = ""
) -> HeldOut | None:
    """What an example starts with; None unless that is a question and its answer."""
    messages = example.messages or []
    system = messages[0]["content"] if messages and messages[0]["role"] == "system" else ""
    rest = messages[1:] if system else messages
    if [message["role"] for message in rest[:2]] != ["user", "assistant"]:
        return None
    question, expected = rest[0].get("content"), _expected(rest[1])
    images = _first_images(example, question) if isinstance(question, str) else []
    if not isinstance(question, str) or expected is None or len(images) > 1:
        return None
    image = dataset.dir / str(images[0]) if images and dataset else None
    text = question.replace(IMAGE_MARK, "").strip() if images else question
    return HeldOut(text, expected, system or system_prompt, example.tools or [], image, example.row)


def scores_in_words(expected: Answer, talk: Talk) -> str:
    """How near the last answers came, as in “Exact match: base model 0.00, tuned model 1.00”."""
    choice = choose_measures([expected])
    said = []
    for side in SIDES:
        at = last_answer(talk[side])
        given = answer_of(talk[side][at]) if at is not None else None
        score = given and score_answer(choice.main, given, expected, choice.labels)
        said += [f"{side} model {score:.2f}"] if isinstance(score, float) else []
    return f"{MEASURE_LABELS[choice.main]}: {', '.join(said)}" if said else ""


def _expected(message: dict[str, Any]) -> Answer | None:
    content, calls = message.get("content"), calls_of(message)
    if not (isinstance(content, str) and content.strip()) and not calls:
        return None
    plain = read_answer(content if isinstance(content, str) else "")
    reasoning = str(message.get("reasoning_content") or "") or plain.reasoning
    return Answer(plain.content, reasoning, calls)


def _first_images(example: Example, question: str) -> list[Any]:
    """The pictures of the first question: as many as it has marks, or all without any mark."""
    images = list(example.images or ())
    texts = [str(one.get("content")) for one in example.messages or []]
    marks = question.count(IMAGE_MARK)
    return images[:marks] if any(IMAGE_MARK in text for text in texts) else images
