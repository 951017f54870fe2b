"""Chat with a run: one copy of the base model, its adapter switched on or off, answers streamed.

Prompts come from the function that builds them for training.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

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
from trainer_backend.runs import Target
from trainer_backend.tokens.encode import prompt_ids

TURN_LIMIT = 4096


class ChatModel:
    """A loaded model that answers with its adapter on (“tuned”) or off (“base”)."""

    def __init__(self, home: Path, target: Target, progress: Progress = silent):
        self.target = target
        folder = fetch_model(home, target.base_model, progress, target.revision)
        progress("Loading the model", 0, 1, "step")
        self.tokenizer = load_tokenizer(target.checkpoint or folder)
        needs_base = target.checkpoint is None or target.has_adapter
        self._folder, self._full_base = folder, None
        base = load_base(folder, target.precision) if needs_base else None
        self.model = base
        if target.checkpoint:
            self.model = load_tuned(target.checkpoint, base, target.precision)
        self.model.eval()
        progress("Loading the model", 1, 1, "step")

    def prompt(self, messages: list[dict]) -> list[int]:
        """Token ids the model is given: the training prompt, byte for byte."""
        return prompt_ids(messages, self.tokenizer)

    def stream(self, messages: list[dict], which: str, sampling: Sampling) -> Iterator[str]:
        """Yield the answer so far, longer each time. `which` is “tuned” or “base”."""
        model, switched = self._side(which)
        ids = self.prompt(messages)
        room = getattr(model.config, "max_position_embeddings", TURN_LIMIT) - len(ids)
        if room < 1:
            raise UserError(
                f"The conversation is too long for this model ({len(ids)} tokens).",
                "Chat",
                "Start a new conversation or shorten the message.",
            )
        limited = Sampling(
            sampling.temperature,
            sampling.top_p,
            max(1, min(sampling.max_new_tokens, room, TURN_LIMIT)),
            sampling.seed,
        )
        written: list[int] = []
        stops = stop_tokens(model, self.tokenizer)
        for token in stream_tokens(model, ids, stops, limited, switched):
            written.append(token)
            text = self.tokenizer.decode(written, skip_special_tokens=True)
            if not text.endswith("\ufffd"):  # a character may need several tokens
                yield text
        yield self.tokenizer.decode(written, skip_special_tokens=True)

    def stream_both(
        self, messages: dict[str, list[dict]], sampling: Sampling
    ) -> Iterator[tuple[str, str]]:
        """Yield (which, answer so far) in turns, so that both answers grow side by side.

        `messages` holds each side's own conversation: {"base": [...], "tuned": [...]}.
        """
        streams = {which: self.stream(said, which, sampling) for which, said in messages.items()}
        while streams:
            for which, stream in list(streams.items()):
                text = next(stream, None)
                if text is None:
                    del streams[which]
                else:
                    yield which, text

    def _side(self, which: str):
        if which == "tuned" and self.target.checkpoint is None:
            raise UserError("A base model has no tuned side.", "Chat", "Choose a finished run.")
        if which == "tuned" or self.target.checkpoint is None:
            return self.model, nullcontext
        if self.target.has_adapter:
            return self.model, self.model.disable_adapter
        if (
            self._full_base is None
        ):  # a fully trained model has no switch: the base is a second copy
            self._full_base = load_base(self._folder, self.target.precision).eval()
        return self._full_base, nullcontext
