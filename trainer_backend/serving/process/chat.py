"""Chat with a run: one copy of the base model, the adapter switched on or off, streamed answers.

Prompts are built by the same function as for training, and answers are taken apart into reasoning,
text and calls.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from peft import PeftModel
from transformers import ProcessorMixin

from trainer_backend.downloads import Progress, silent
from trainer_backend.errors import UserError
from trainer_backend.evaluation.engine.answering import answer_text, write_answers
from trainer_backend.models.loaded.answer_parts import Answer
from trainer_backend.models.loaded.asking import AskedWith, Prompt, build_prompt, without_pictures
from trainer_backend.models.loaded.generate import (
    Sampling,
    ended_at_mark,
    seen_inputs,
    stop_tokens,
    stream_seen,
    stream_tokens,
)
from trainer_backend.models.loaded.load import (
    fetch_model,
    load_base,
    load_processing,
    load_tuned,
)
from trainer_backend.models.loaded.pretrained import AnyModel, tokenizer_of
from trainer_backend.runs import Target

TURN_LIMIT = 4096
PLAINLY = AskedWith()
Switch = Callable[[], AbstractContextManager[object]]  # entered around each step of the model


class ChatModel:
    """A loaded model that answers with its adapter on (“tuned”) or off (“base”)."""

    def __init__(self, home: Path, target: Target, progress: Progress = silent):
        self.target = target
        folder = fetch_model(home, target.base_model, progress, target.revision)
        progress("Loading the model", 0, 1, "step")
        self.processing = load_processing(target.checkpoint or folder)
        self.tokenizer = tokenizer_of(self.processing)
        needs_base = target.checkpoint is None or target.has_adapter
        self._folder = folder
        self._full_base: AnyModel | None = None
        base = load_base(folder, target.precision) if needs_base else None
        model = load_tuned(target.checkpoint, base, target.precision) if target.checkpoint else base
        assert model is not None  # without a checkpoint the base was loaded
        self.model: AnyModel = model.eval()
        progress("Loading the model", 1, 1, "step")

    def prompt(self, messages: list[dict], asked: AskedWith = PLAINLY) -> Prompt:
        """The prompt exactly as in training; a message may have `images`, a list of files.

        Raises UserError for images if the model reads only text.
        """
        plain, images = without_pictures(messages)
        if images and not isinstance(self.processing, ProcessorMixin):
            raise UserError(
                "This model reads only text, so it cannot look at a picture.",
                "Chat",
                "Remove the picture, or choose a run of a model that reads images.",
            )
        return build_prompt(plain, self.processing, asked, images)

    def stream(
        self, messages: list[dict], which: str, sampling: Sampling, asked: AskedWith = PLAINLY
    ) -> Iterator[Answer]:
        """Yield the answer so far, longer each time. `which` is “tuned” or “base”.

        Raises UserError when the messages fill the model's context.
        """
        prompt = self.prompt(messages, asked)
        written: list[int] = []
        spent, text = 0.0, ""
        for token, seconds in _timed(self._tokens(prompt, which, sampling)):
            spent += seconds if written else 0.0
            written.append(token)
            text = str(self.tokenizer.decode(written))
            text, ended = ended_at_mark(text, self.tokenizer)
            if ended:
                break
            if not text.endswith("\ufffd"):  # a character may need several tokens
                yield prompt.read(text, growing=True)
        else:
            cut = len(written) >= sampling.max_new_tokens
            yield replace(prompt.read(text), cut=cut, tokens=len(written), seconds=spent)
            return
        yield replace(prompt.read(text), tokens=len(written), seconds=spent)

    def check(self, messages: list[dict], asked: AskedWith) -> None:
        """Raise UserError or TrainingDataError for messages that the model cannot be asked."""
        prompt = self.prompt(messages, asked)
        _limited(Sampling(), self.model, len(prompt.ids))

    def answer_all(
        self,
        asked: Sequence[list[dict]],
        which: str,
        sampling: Sampling,
        given: AskedWith,
        tick: Callable[[], None],
    ) -> list[Answer]:
        """The greedy answers to several conversations without pictures, written at once.

        `tick` is called after every token; what it raises ends the work.
        """
        model, switched = self._side(which)
        prompts = [self.prompt(messages, given) for messages in asked]
        ids = [one.ids for one in prompts]
        limits = [_limited(sampling, model, len(one)).max_new_tokens for one in ids]
        with switched():
            written = write_answers(model, self.tokenizer, ids, limits, lambda _: tick())
        texts = [answer_text(one, self.tokenizer) for one in written]
        return [
            replace(prompt.read(text), cut=one.cut, tokens=len(one.ids))
            for prompt, text, one in zip(prompts, texts, written, strict=True)
        ]

    def _tokens(self, prompt: Prompt, which: str, sampling: Sampling) -> Iterator[int]:
        """The ids that the model writes after the prompt."""
        model, switched = self._side(which)
        stops = stop_tokens(model, self.tokenizer)
        if not prompt.images:
            limited = _limited(sampling, model, len(prompt.ids))
            yield from stream_tokens(model, prompt.ids, stops, limited, switched)
            return
        assert isinstance(self.processing, ProcessorMixin)  # prompt() has refused them otherwise
        inputs = seen_inputs(self.processing, prompt.text, prompt.images, model)
        limited = _limited(sampling, model, inputs["input_ids"].shape[1])
        with switched():
            yield from stream_seen(model, inputs, stops, limited)

    def stream_both(
        self,
        messages: dict[str, list[dict]],
        sampling: Sampling,
        asked: AskedWith = PLAINLY,
    ) -> Iterator[tuple[str, Answer]]:
        """Yield (which, answer so far) in turns, so that both answers grow side by side.

        `messages` holds one conversation for each side: {"base": [...], "tuned": [...]}. With
        pictures one side answers after the other.
        """
        streams = {
            which: self.stream(own, which, sampling, asked) for which, own in messages.items()
        }
        if any(message.get("images") for own in messages.values() for message in own):
            for which, stream in streams.items():
                yield from ((which, answer) for answer in stream)
            return
        while streams:
            for which, stream in list(streams.items()):
                answer = next(stream, None)
                if answer is None:
                    del streams[which]
                else:
                    yield which, answer

    def _side(self, which: str) -> tuple[AnyModel, Switch]:
        if which == "tuned" and self.target.checkpoint is None:
            raise UserError("A base model has no tuned side.", "Chat", "Choose a finished run.")
        if which == "tuned" or self.target.checkpoint is None:
            return self.model, nullcontext
        if isinstance(self.model, PeftModel):
            return self.model, self.model.disable_adapter
        if self._full_base is None:  # full training has no adapter to switch off: a second copy
            self._full_base = load_base(self._folder, self.target.precision).eval()
        return self._full_base, nullcontext


def _timed(tokens: Iterator[int]) -> Iterator[tuple[int, float]]:
    """Tokens, each with the seconds it took to write it."""
    began = time.monotonic()
    for token in tokens:
        yield token, time.monotonic() - began
        began = time.monotonic()


def _limited(sampling: Sampling, model: AnyModel, length: int) -> Sampling:
    """Sampling that fits into the model's context after `length` tokens. Raises UserError."""
    config = model.config.get_text_config()
    room = getattr(config, "max_position_embeddings", TURN_LIMIT) - length
    if room < 1:
        raise UserError(
            f"The conversation is too long for this model ({length} tokens).",
            "Chat",
            "Start a new conversation or shorten the message.",
        )
    return replace(sampling, max_new_tokens=max(1, min(sampling.max_new_tokens, room, TURN_LIMIT)))
