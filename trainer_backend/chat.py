"""Talking to a run: one copy of the base model, its adapter switched on or off, answers streamed.

The prompt is built by the function that built it for training (data/chat_template.py).
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from .data.chat_template import prompt_ids
from .errors import UserError
from .generate import Sampling, stop_tokens, stream_tokens
from .hardware import hardware
from .model import Progress, fetch_model, load_base, load_tokenizer, load_tuned, silent
from .resolve import resolve
from .run_files import SPEC
from .runs import Run, open_run

TURN_LIMIT = 4096


@dataclass(frozen=True)
class Target:
    """What to talk to: a run's checkpoint, or a plain base model (no checkpoint)."""

    base_model: str
    precision: str
    checkpoint: Path | None = None
    revision: str | None = None  # the commit of the Hub the run began with

    @property
    def has_adapter(self) -> bool:
        return self.checkpoint is not None and (self.checkpoint / "adapter_config.json").exists()


def find_target(home: Path, run_or_model: str, checkpoint: int | None = None) -> Target:
    """RUN of chat: a run id, a run's folder, or a model id. Raises UserError."""
    folder = Path(str(run_or_model)).expanduser()
    if run_or_model.startswith("run-"):
        run = open_run(home, run_or_model)
    elif (folder / SPEC).exists():
        run = Run(folder.resolve())
    else:
        return Target(run_or_model, "fp32" if hardware().kind == "cpu" else "bf16")
    return run_target(run, checkpoint)


def run_target(run: Run, step: int | None = None) -> Target:
    """A run's checkpoint (its result without a step). Raises UserError when there is none."""
    kept = run.checkpoints()
    chosen = [one for one in kept if one.step == step] if step is not None else [run.result()]
    if not kept or not chosen:
        what = "This run has no checkpoint yet." if not kept else f"There is no checkpoint {step}."
        raise UserError(what, run.name(), "Wait for the first checkpoint, or choose another run.")
    recipe = run.recipe()
    precision = run.state().get("precision") or resolve(recipe, hardware())[0].precision
    revision = run.spec()["base"]["revision"]
    return Target(recipe.base_model, precision, chosen[-1].path, revision)


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
