"""A conversation with the base and the tuned model: turns, streamed answers, held-out questions.

Knows no components; text is generated in the model process.
"""

import random
import time
from collections.abc import Generator, Iterator
from typing import Any

from markupsafe import Markup

from sft_ui import markup
from sft_ui.context import Studio
from trainer_backend.data.formats import Example
from trainer_backend.errors import UserError
from trainer_backend.runs import Run

MODEL_PREFIX = "model:"
LABELS = {"base": "Base model", "tuned": "Tuned model"}
SECONDS_BETWEEN_UPDATES = 0.05
WAITING = "…"
NUM_TRIED = 20  # held-out rows from which a question is chosen
Turns = list[dict]
Talk = dict[str, Turns]  # by side: "base", "tuned"


def new_conversation() -> Talk:
    """A conversation without turns: {"base": [], "tuned": []}."""
    return {"base": [], "tuned": []}


def pane(side: str, turns: Turns) -> Markup:
    """One side as HTML. Users' and models' texts are escaped."""
    label = LABELS[side]
    shown = markup.each(
        Markup('<div class="turn {}">{}</div>'),
        ((turn["role"], turn["content"] or WAITING) for turn in turns),
    )
    template = Markup(
        '<section class="chat" role="log" aria-label="{label}"><h3>{label}</h3>{turns}</section>'
    )
    nothing = markup.line("No answer yet", "quiet")
    return template.format(label=label, turns=shown or nothing)


def panes(talk: Talk) -> list[Markup]:
    """Both sides as HTML: [base, tuned]."""
    return [pane(side, talk[side]) for side in LABELS]


def stream_talk(
    studio: Studio, talk: Talk, text: str, run: str, checkpoint: int, system: str, **sampling: Any
) -> Iterator[Talk]:
    """Send a message to both models; yields the conversation as the answers grow.

    Closing the generator stops the models. Raises UserError without a message or a model.
    """
    if not (text or "").strip():
        raise UserError("The message is empty.", "Chat", "Type a message, then press Send.")
    if not run:
        raise UserError("No model is selected.", "Chat", "Choose a run, or train one first.")
    sides = ["base"] if run.startswith(MODEL_PREFIX) else ["base", "tuned"]
    talk = {side: answered(talk[side]) for side in LABELS}
    for side in sides:
        talk[side] += [{"role": "user", "content": text}, {"role": "assistant", "content": ""}]
    yield talk
    asked = {side: with_system(talk[side][:-1], system) for side in sides}
    shown_at = 0.0
    for side, so_far in _answers(studio, asked, run, checkpoint, sampling):
        talk[side][-1] = {"role": "assistant", "content": so_far}
        if time.monotonic() - shown_at > SECONDS_BETWEEN_UPDATES:
            shown_at = time.monotonic()
            yield talk
    yield talk


def _answers(
    studio: Studio, asked: Talk, run: str, checkpoint: int, sampling: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """(side, answer so far); both sides share one request, each with its own conversation."""
    which, messages = ("both", asked) if len(asked) == 2 else next(iter(asked.items()))
    step = checkpoint if isinstance(checkpoint, int) and checkpoint >= 0 else None
    name = run.removeprefix(MODEL_PREFIX)
    stream = studio.model_process.chat(name, messages, checkpoint=step, which=which, **sampling)
    try:
        for part in stream:
            yield part["which"], part["text"]
    finally:
        if isinstance(stream, Generator):  # closing it stops the models
            stream.close()


def with_system(messages: Turns, system: str | None) -> Turns:
    """The conversation with the system prompt, if any, in front."""
    if not (system or "").strip():
        return list(messages)
    return [{"role": "system", "content": system}, *messages]


def answered(turns: Turns) -> Turns:
    """The turns without a final question whose answer was stopped before it began."""
    if turns and not turns[-1]["content"]:
        return turns[:-2]
    return list(turns)


def held_out_turn(run: Run) -> tuple[str, str, str]:
    """(question, system prompt, expected answer) of a random held-out row.

    Raises UserError when the run has none that starts with a question and an answer.
    """
    _, held_out = run.split()
    tried = sorted(random.sample(held_out, min(NUM_TRIED, len(held_out))))
    turns = [turn for one in run.dataset().examples(tried) if (turn := first_turn(one))]
    if not turns:
        raise UserError(
            "This run has no held-out row to try.",
            run.name(),
            "Hold out some rows in the Model tab, or type your own message.",
        )
    return random.choice(turns)


def first_turn(example: Example) -> tuple[str, str, str] | None:
    """(question, system prompt, answer) an example starts with; None if it starts otherwise."""
    messages = example.messages or []
    system = messages[0]["content"] if messages and messages[0]["role"] == "system" else ""
    rest = messages[1:] if system else messages
    roles = [message["role"] for message in rest[:2]]
    texts = [message.get("content") for message in rest[:2]]
    question, answer = texts if roles == ["user", "assistant"] else (None, None)
    if not isinstance(question, str) or not isinstance(answer, str):
        return None
    return question, system or "", answer
