"""A wrong answer of a blind test, corrected by a person and kept as a row to train on.

What a correction is, and what is refused, is decided in the library.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer_backend.comparison.blind import LEFT, RIGHT, BlindTest
from trainer_backend.comparison.blind.answering import asked_messages
from trainer_backend.corrections import Kept, Wrong, keep_correction, read_calls
from trainer_backend.errors import UserError
from trainer_backend.models.loaded.answer_parts import Answer

PLACE = "blind test"


def wrong_answer(home: Path, test: BlindTest, at: int | None, place: object) -> Wrong:
    """The answer that stands left or right of question `at`, with all that it was asked with.

    Raises UserError for one that is not there.
    """
    if at is None or place not in (LEFT, RIGHT) or not test.questions[at].is_answered:
        raise UserError("There is no such answer.", "Correct this answer", "Reload the page.")
    question = test.questions[at]
    side = test.side(question.side_of(str(place)))
    images = home / "datasets" / test.dataset_id if test.dataset_id else None
    return Wrong(
        side.run,
        asked_messages(question, side, images),
        question.shown(str(place)),
        question.tools or (side.tools if question.row is None else []),
        side.checkpoint,
        PLACE,
        question.row,
    )


def keep_corrected(home: Path, test: BlindTest, at: int | None, asked: Mapping[str, Any]) -> Kept:
    """Keep a person's answer: {"place", "answer", "calls", "reasoning"}. Raises UserError."""
    wrong = wrong_answer(home, test, at, asked.get("place"))
    text, calls, reasoning = (str(asked.get(one) or "") for one in ("answer", "calls", "reasoning"))
    return keep_correction(home, wrong, Answer(text, reasoning, read_calls(calls)))
