"""Chat with a run: one copy of the base model, the adapter switched on or off, streamed answers.

Prompts are built by the same function as for training.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from peft import PeftModel

from trainer_backend.errors import UserError
from trainer_backend.models.loaded.generate import Sampling, stop_tokens, stream_tokens
from trainer_backend.models.loaded.load import (
    Progress,
    fetch_model,
    load_base,
    load_tokenizer,
    load_tuned,
    silent,
)
from trainer_backend.models.loaded.pretrained import AnyModel
from trainer_backend.runs import Target
from trainer_backend.tokens.encode import prompt_ids

TURN_LIMIT = 4096
Switch = Callable[[], AbstractContextManager[object]]  # entered around each step of the model


class ChatModel:
    """A loaded model that answers with its adapter on (“tuned”) or off (“base”)."""

    def __init__(self, home: Path, target: Target, progress: Progress = silent):
        self.target = target
        folder = fetch_model(home, target.base_model, progress, target.revision)
        progress("Loading the model", 0, 1, "step")
        self.tokenizer = load_tokenizer(target.checkpoint or folder)
        needs_base = target.checkpoint is None or target.has_adapter
        self._folder = folder
        self._full_base: AnyModel | None = None
        base = load_base(folder, target.precision) if needs_base else None
        model = load_tuned(target.checkpoint, base, target.precision) if target.checkpoint else base
        assert model is not None  # without a checkpoint the base was loaded
        self.model: AnyModel = model.eval()
        progress("Loading the model", 1, 1, "step")

    def prompt(self, messages: list[dict]) -> list[int]:
        """The prompt as token ids, exactly as in training."""
        return prompt_ids(messages, self.tokenizer)

    def stream(self, messages: list[dict], which: str, sampling: Sampling) -> Iterator[str]:
        """Yield the answer so far, longer each time. `which` is “tuned” or “base”.

        Raises UserError when the messages fill the model's context.
        """
        model, switched = self._side(which)
        ids = self.prompt(messages)
        room = getattr(model.config, "max_position_embeddings", TURN_LIMIT) - len(ids)
        if room < 1:
            raise UserError(
                f"The conversation is too long for this model ({len(ids)} tokens).",
                "Chat",
                "Start a new conversation or shorten the message.",
            )
        most = max(1, min(sampling.max_new_tokens, room, TURN_LIMIT))
        limited = replace(sampling, max_new_tokens=most)
        written: list[int] = []
        stops = stop_tokens(model, self.tokenizer)
        for token in stream_tokens(model, ids, stops, limited, switched):
            written.append(token)
            text = str(self.tokenizer.decode(written, skip_special_tokens=True))
            if not text.endswith("\ufffd"):  # a character may need several tokens
                yield text
        yield str(self.tokenizer.decode(written, skip_special_tokens=True))

    def stream_both(
        self, messages: dict[str, list[dict]], sampling: Sampling
    ) -> Iterator[tuple[str, str]]:
        """Yield (which, answer so far) in turns, so that both answers grow side by side.

        `messages` holds one conversation for each side: {"base": [...], "tuned": [...]}.
        """
        streams = {which: self.stream(own, which, sampling) for which, own in messages.items()}
        while streams:
            for which, stream in list(streams.items()):
                text = next(stream, None)
                if text is None:
                    del streams[which]
                else:
                    yield which, text

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
