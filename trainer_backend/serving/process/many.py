"""Answers to many prompts: as many at once as memory allows, or one after the other.

Sampled answers and prompts with pictures are written one by one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from trainer_backend.errors import TrainingDataError, UserError
from trainer_backend.models.loaded.answer_parts import Answer
from trainer_backend.models.loaded.asking import AskedWith
from trainer_backend.models.loaded.generate import Sampling
from trainer_backend.serving.process.chat import ChatModel

FIRST, AT_ONCE = 4, 16  # so that the first answers come soon, and others have a turn between


def parts_of(count: int) -> Iterator[range]:
    """The places of `count` prompts, part by part: a small part first."""
    start, size = 0, FIRST
    while start < count:
        yield range(start, min(count, start + size))
        start, size = start + size, AT_ONCE


def answer_some(
    model: ChatModel,
    asked: Sequence[list[dict[str, Any]]],
    which: str,
    sampling: Sampling,
    given: AskedWith,
    tick: Callable[[], None],
) -> Iterator[dict[str, Any]]:
    """The answers to some conversations, in order: {"which", "text", …} or {"which", "error"}.

    `tick` is called after every token; what it raises ends the work.
    """
    ready: list[tuple[int, list[dict[str, Any]]]] = []
    refused: dict[int, str] = {}
    for at, messages in enumerate(asked):
        try:
            model.check(messages, given)
            ready.append((at, messages))
        except (UserError, TrainingDataError) as error:
            refused[at] = error.what
    greedy = sampling.temperature <= 0
    plain = not any(one.get("images") for _, messages in ready for one in messages)
    conversations = [messages for _, messages in ready]
    if greedy and plain:
        answers = model.answer_all(conversations, which, sampling, given, tick)
    else:
        answers = [_alone(model, one, which, sampling, given, tick) for one in conversations]
    found = dict(zip((at for at, _ in ready), answers, strict=True))
    for at in range(len(asked)):
        if at in refused:
            yield {"which": which, "error": refused[at]}
        else:
            yield {"which": which, "text": found[at].in_words(), **asdict(found[at])}


def _alone(
    model: ChatModel,
    messages: list[dict[str, Any]],
    which: str,
    sampling: Sampling,
    given: AskedWith,
    tick: Callable[[], None],
) -> Answer:
    answer = Answer("")
    for grown in model.stream(messages, which, sampling, given):
        answer = grown
        tick()
    return answer
