"""Held-out rows as questions with a known answer, for trying out a run.

Which rows are held out is decided in trainer_backend/data/store/split.py.
"""

import random

from trainer_backend.data.formats.example import Example
from trainer_backend.errors import UserError
from trainer_backend.runs.run import Run

NUM_TRIED = 20


def held_out_turn(run: Run) -> tuple[str, str, str]:
    """(question, system prompt, expected answer) of a random row the run did not learn from."""
    _, held_out = run.split()
    tried = sorted(random.sample(held_out, min(NUM_TRIED, len(held_out))))
    turns = [turn for one in run.dataset().examples(tried) if (turn := first_turn(one))]
    if not turns:
        raise UserError(
            "This run has no held-out row to ask.",
            run.name(),
            "Hold out some rows in the Model tab, or write a message of your own.",
        )
    return random.choice(turns)


def first_turn(example: Example) -> tuple[str, str, str] | None:
    """An example's first question with its system message and its answer, if it has them."""
    messages = example.messages or []
    system = messages[0]["content"] if messages and messages[0]["role"] == "system" else ""
    rest = messages[1:] if system else messages
    roles = [message["role"] for message in rest[:2]]
    texts = [message.get("content") for message in rest[:2]]
    if roles != ["user", "assistant"] or not all(isinstance(text, str) for text in texts):
        return None
    return texts[0], system or "", texts[1]
