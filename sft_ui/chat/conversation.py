"""A conversation with two models: what was said on each side, and answers as they grow.

The components are in chat_tab.py; generating is done in the model process.
"""

import random
import time
from collections.abc import Iterator

from markupsafe import Markup

from sft_ui import markup
from sft_ui.context import Studio
from trainer_backend.data.formats import Example
from trainer_backend.errors import UserError
from trainer_backend.runs import Run

MODEL_PREFIX = "model:"
LABELS = {"base": "Base model", "tuned": "Tuned model"}
SECONDS_BETWEEN_PICTURES = 0.05
WAITING = "…"


def new_conversation() -> dict[str, list[dict]]:
    """Nothing said yet."""
    return {"base": [], "tuned": []}


def pane(side: str, turns: list[dict]) -> Markup:
    """One side as HTML. What people and models write is text, never markup."""
    label = LABELS[side]
    said = markup.each(
        Markup('<div class="turn {}">{}</div>'),
        ((turn["role"], turn["content"] or WAITING) for turn in turns),
    )
    template = Markup(
        '<section class="chat" role="log" aria-label="{label}"><h3>{label}</h3>{said}</section>'
    )
    nothing = markup.line(f"{label}: no answer yet", "quiet")
    return template.format(label=label, said=said or nothing)


def panes(talk: dict[str, list[dict]]) -> list[Markup]:
    """Both sides as HTML: base, tuned."""
    return [pane(side, talk[side]) for side in LABELS]


def stream_talk(
    studio: Studio, talk: dict, text: str, run: str, checkpoint: int, system: str, **sampling
) -> Iterator[dict]:
    """Say something to both models; yield the conversation as their answers grow.

    Closing the generator stops the models. Raises UserError when there is nothing to say or nobody
    to say it to.
    """
    if not (text or "").strip():
        raise UserError("There is no message.", "Chat", "Write something, then press Send.")
    if not run:
        raise UserError("There is nobody to talk to.", "Chat", "Choose a run, or train one first.")
    sides = ("base",) if run.startswith(MODEL_PREFIX) else ("base", "tuned")
    talk = {side: answered(talk[side]) for side in LABELS}
    for side in sides:
        talk[side] += [{"role": "user", "content": text}, {"role": "assistant", "content": ""}]
    yield talk
    shown_at = 0.0
    for side, so_far in _answers(studio, talk, sides, run, checkpoint, system, sampling):
        talk[side][-1] = {"role": "assistant", "content": so_far}
        if time.monotonic() - shown_at > SECONDS_BETWEEN_PICTURES:
            shown_at = time.monotonic()
            yield talk
    yield talk


def _answers(studio, talk, sides, run, checkpoint, system, sampling) -> Iterator[tuple[str, str]]:
    """Parts of the answers; two sides are asked together, each with its own conversation."""
    asked = {side: with_system(talk[side][:-1], system) for side in sides}
    which, messages = ("both", asked) if len(sides) == 2 else (sides[0], asked[sides[0]])
    step = checkpoint if isinstance(checkpoint, int) and checkpoint >= 0 else None
    name = run.removeprefix(MODEL_PREFIX)
    stream = studio.model_process.chat(name, messages, checkpoint=step, which=which, **sampling)
    try:
        for part in stream:
            yield part["which"], part["text"]
    finally:
        stream.close()


def with_system(messages: list[dict], system: str | None) -> list[dict]:
    """The conversation with the system prompt in front, when there is one."""
    if not (system or "").strip():
        return list(messages)
    return [{"role": "system", "content": system}, *messages]


def answered(turns: list[dict]) -> list[dict]:
    """The turns without a last question that was stopped before its answer began."""
    if turns and not turns[-1]["content"]:
        return turns[:-2]
    return list(turns)


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
