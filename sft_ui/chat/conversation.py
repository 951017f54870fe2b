"""A conversation with the base and the tuned model: turns and streamed answers.

Knows no components; text is generated in the model process.
"""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from sft_ui.context import Studio
from trainer_backend.errors import UserError
from trainer_backend.models.loaded.answer_parts import Answer

MODEL_PREFIX = "model:"
SECONDS_BETWEEN_UPDATES = 0.05
SIDES = ("base", "tuned")
# {"role", "content"}, "images" of a user; of answers "reasoning", "calls", "waiting" before them,
# "cut" where they are not complete: "stopped" or "limit"; "tokens", and the "seconds" for those
# after the first; "asked": what it was asked with; "corrected" once a person has kept a better one
Turn = dict[str, Any]
Turns = list[Turn]
Talk = dict[str, Turns]  # by side: "base", "tuned"


@dataclass(frozen=True)
class Message:
    """What the person sends; `is_result`: it is what the called tool returned."""

    text: str
    image: str | None = None  # a file
    is_result: bool = False


@dataclass(frozen=True)
class Question:
    """Whom a message is sent to and with what: a run, its checkpoint, and how it is asked."""

    run: str
    checkpoint: int = -1
    system: str = ""
    asked: dict[str, Any] = field(default_factory=dict)  # tools, thinking, control_tokens
    sampling: dict[str, Any] = field(default_factory=dict)


def new_conversation() -> Talk:
    """A conversation without turns: {"base": [], "tuned": []}."""
    return {"base": [], "tuned": []}


def stream_talk(studio: Studio, talk: Talk, message: Message, question: Question) -> Iterator[Talk]:
    """Send a message to both models; yields the conversation as the answers grow.

    Closing the generator stops the models. Raises UserError without a message or a model.
    """
    if not (message.text or "").strip():
        raise UserError("The message is empty.", "Chat", "Type a message, then press Send.")
    if not question.run:
        raise UserError("No model is selected.", "Chat", "Choose a run, or train one first.")
    sides = SIDES[:1] if question.run.startswith(MODEL_PREFIX) else SIDES
    talk = {side: answered(talk[side]) for side in SIDES}
    for side in sides:
        talk[side] += [_turn(message, talk[side]), {"role": "assistant", "content": ""}]
    yield talk
    asked = {side: with_system(as_asked(talk[side][:-1]), question.system) for side in sides}
    with_what = {
        "system": question.system,
        "tools": question.asked.get("tools") or [],
        "thinking": question.asked.get("thinking", "auto"),
        "checkpoint": question.checkpoint,
    }
    shown_at = 0.0
    for part in _answers(studio, asked, question):
        if "fetching" in part:
            for side in sides:
                talk[side][-1] = {"role": "assistant", "content": "", "waiting": _far(part)}
            yield talk
            continue
        talk = waiting_for(talk, "")
        talk[part["which"]][-1] = _answer(part) | {"asked": with_what}
        if time.monotonic() - shown_at > SECONDS_BETWEEN_UPDATES:
            shown_at = time.monotonic()
            yield talk
    yield talk


def waiting_for(talk: Talk, words: str) -> Talk:
    """The conversation with other words where it tells how far a download is."""
    return {
        side: [{**turn, "waiting": words} if turn.get("waiting") else turn for turn in turns]
        for side, turns in talk.items()
    }


def _far(part: dict[str, Any]) -> str:
    """How far the model's download is, in words."""
    found = part["fetching"]
    return ": ".join(filter(None, (found["what"], found["words"]))) + "…"


def _turn(message: Message, before: Turns) -> Turn:
    """The message as a turn; a tool's result only where the model has called a tool."""
    if message.is_result and before and before[-1].get("calls"):
        return {"role": "tool", "content": message.text, "name": before[-1]["calls"][0]["name"]}
    turn: Turn = {"role": "user", "content": message.text}
    return {**turn, "images": [message.image]} if message.image else turn


def _answer(part: dict[str, Any]) -> Turn:
    turn: Turn = {"role": "assistant", "content": part.get("content", part["text"])}
    cut = {"cut": "limit"} if part.get("cut") else {}
    known = ("reasoning", "calls", "tokens", "seconds")
    return turn | {name: part[name] for name in known if part.get(name)} | cut


def as_asked(turns: Turns) -> Turns:
    """Turns as messages for the chat template: calls and reasoning where it looks for them."""
    messages: Turns = []
    for turn in turns:
        if turn["role"] == "assistant":
            messages.append(answer_of(turn).as_message())
        elif turn["role"] == "tool":
            call = messages[-1]["tool_calls"][0]["id"]
            messages.append({**turn, "tool_call_id": call})
        else:
            messages.append(turn)
    return messages


def _answers(studio: Studio, asked: Talk, question: Question) -> Iterator[dict[str, Any]]:
    """The answers so far; both sides share one request, each with its own conversation."""
    which, messages = ("both", asked) if len(asked) == len(SIDES) else next(iter(asked.items()))
    step, name = question.checkpoint, question.run.removeprefix(MODEL_PREFIX)
    stream = studio.model_process.chat_steps(
        name,
        messages,
        checkpoint=step if isinstance(step, int) and step >= 0 else None,
        which=which,
        asked=question.asked,
        **question.sampling,
    )
    try:
        yield from stream
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
    if turns and not any(turns[-1].get(name) for name in ("content", "calls", "reasoning")):
        return turns[:-2]
    return list(turns)


def marked_stopped(turns: Turns) -> Turns:
    """The turns with the last answer marked as stopped by the person."""
    if not turns or turns[-1]["role"] != "assistant" or turns[-1].get("cut"):
        return turns
    return [*turns[:-1], {**turns[-1], "cut": "stopped"}]


def retried(talk: Talk) -> tuple[Talk, Message]:
    """The conversation before its last question, and that question. Raises UserError without one.

    Both sides go back one answer, each to its own question.
    """
    shown = answered(talk["tuned"]) or answered(talk["base"])
    if len(shown) < 2:
        raise UserError("There is no answer to try again.", "Chat", "Ask something first.")
    asked = shown[-2]
    before = {side: answered(turns)[:-2] for side, turns in talk.items()}
    return before, _as_message(asked)


def before_turn(talk: Talk, side: str, at: int) -> tuple[Talk, Message]:
    """The conversation before a person's turn `at` of a side, and that turn. Raises UserError.

    The other side goes back to the same words.
    """
    turns = talk[side] if side in SIDES else []
    if not (0 <= at < len(turns)) or turns[at]["role"] == "assistant":
        raise UserError("This message is gone.", "Chat", "Choose one of the conversation.")
    asked, counted = turns[at], _number_of(turns, at)
    cut = {}
    for one, own in talk.items():
        same = [i for i, turn in enumerate(own) if turn["content"] == asked["content"]]
        same = [i for i in same if own[i]["role"] != "assistant"]
        end = at if one == side else same[min(counted, len(same) - 1)] if same else len(own)
        cut[one] = own[:end]
    return cut, _as_message(asked)


def _number_of(turns: Turns, at: int) -> int:
    """How many earlier turns of the person say the same as turn `at`."""
    said = turns[at]["content"]
    return sum(one["content"] == said and one["role"] != "assistant" for one in turns[:at])


def _as_message(turn: Turn) -> Message:
    return Message(
        turn["content"], next(iter(turn.get("images") or ()), None), turn["role"] == "tool"
    )


def answer_of(turn: Turn) -> Answer:
    """An answer as it was given."""
    return Answer(turn["content"], turn.get("reasoning", ""), turn.get("calls", []))


def last_answer(turns: Turns) -> int | None:
    """The place of the last answer that says something."""
    turns = answered(turns)
    return len(turns) - 1 if turns and turns[-1]["role"] == "assistant" else None


def marked_corrected(talk: Talk, words: str) -> Talk:
    """The conversation with the last tuned answer of these words marked as corrected."""
    turns = list(talk["tuned"])
    same = [
        at
        for at, turn in enumerate(turns)
        if turn["role"] == "assistant" and answer_of(turn).in_words() == words
    ]
    if same:
        turns[same[-1]] = {**turns[same[-1]], "corrected": True}
    return {**talk, "tuned": turns}


def calls_open(talk: Talk) -> bool:
    """Whether the last answer of a side calls a tool, so that its result may come next."""
    return any(turns and turns[-1].get("calls") for turns in talk.values())
