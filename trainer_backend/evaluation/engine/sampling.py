"""A few held-out prompts, answered by the model as it is at each evaluation of its training.

Training goes on as if nothing had been asked: nothing random is drawn, no mode and no weight
changes. Which steps are evaluations is not decided here.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers import TrainerCallback, TrainerState

from trainer_backend.errors import is_out_of_memory
from trainer_backend.evaluation.engine.answering import answer_text, write_answers
from trainer_backend.evaluation.engine.questions import Ready
from trainer_backend.evaluation.limits import SAMPLE_SHARE, SAMPLE_TOKENS
from trainer_backend.evaluation.samples import add_samples, forget_after
from trainer_backend.models.loaded.pretrained import AnyModel
from trainer_backend.recipe import label
from trainer_backend.runs.writer import RunWriter

logger = logging.getLogger(__name__)
# of a model that answers in another way than any that was tried: it goes on training
BREAKS = (
    *(MemoryError, RuntimeError, ArithmeticError, AttributeError, LookupError),
    *(TypeError, ValueError),
)


@dataclass
class Budget:
    """The share of a run's time that samples may take, by what they and the run have taken."""

    share: float = SAMPLE_SHARE
    clock: Callable[[], float] = time.monotonic
    spent: float = 0.0
    last: float = 0.0  # seconds of the last samples
    _since: float | None = field(default=None, init=False)

    def begin(self, before: float = 0.0) -> None:
        """Training begins, so many seconds after the run."""
        self._since = self.clock() - before

    def allows(self, done: float) -> bool:
        """Whether samples as dear as the last ones keep to the share; `done` of the run, 0 to 1.

        Until a tenth of the run is done its whole time is not known, and what has passed counts.
        """
        taken = self.clock() - (self.clock() if self._since is None else self._since)
        whole = taken / done if done >= 0.1 else taken
        return self.spent + self.last <= self.share * whole

    def spend(self, seconds: float) -> None:
        """So many seconds went into samples."""
        self.spent += seconds
        self.last = seconds


class SampleAnswers(TrainerCallback):
    """Asks after each evaluation, and once before the first step; `ready` are the questions
    and `limits` the most tokens of each answer.

    With several processes only the first asks: `model` gives it the whole model, or None where no
    process has it. Rows with images are not asked.
    `before` are the seconds that the run took to get here.
    """

    def __init__(
        self,
        writer: RunWriter,
        ready: list[Ready],
        limits: list[int],
        tokenizer: Tokenizer,
        model: Callable[[], AnyModel | None],
        before: float = 0.0,
    ):
        self.writer, self.ready, self.tokenizer, self.model = writer, ready, tokenizer, model
        self.limits = [min(SAMPLE_TOKENS, limit) for limit in limits]
        self.budget, self.before = Budget(), before
        self.off = False

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Drop what a resumed run wrote behind its checkpoint; ask before the first step."""
        if not self.writer.enabled:
            return
        self.budget.begin(self.before)
        forget_after(self.writer.run, state.global_step)
        if state.global_step == 0:
            self._ask(0)

    def on_evaluate(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Ask the model as it is, unless that would take too much of the run's time."""
        if not self.writer.enabled or self.off or state.global_step == 0:
            return
        if self.budget.allows(state.global_step / max(1, state.max_steps)):
            self._ask(state.global_step)
        else:
            self.writer.warn(
                f"“{label('sample_rows')}” are left out at some evaluations, to take less than "
                f"{SAMPLE_SHARE:.0%} of the run's time. A longer run has time for more of them."
            )

    def _ask(self, step: int) -> None:
        model = self.model()
        if model is None:
            self._end("no process holds the whole model")
            return
        began = time.monotonic()
        prompts = [one.prompt.ids for one in self.ready]
        self.writer.mark("evaluating")
        try:
            written = write_answers(model, self.tokenizer, prompts, self.limits, self._beat)
            seconds = time.monotonic() - began
            self._write(step, [answer_text(one, self.tokenizer) for one in written],
                        [one.cut for one in written], seconds)  # fmt: skip
        except OSError as error:
            self._end(f"they cannot be written ({error.strerror or error})")
        except BREAKS as error:
            self._end(_reason(error))
        self.budget.spend(time.monotonic() - began)

    def _beat(self, _: int) -> None:
        self.writer.mark("evaluating")

    def _end(self, why: str) -> None:
        self.off = True
        self.writer.warn(f"No samples while training: {why}.")

    def _write(self, step: int, texts: list[str], cut: list[bool], seconds: float) -> None:
        add_samples(
            self.writer.run,
            [
                {
                    "step": step,
                    "row": one.question.row,
                    "prompt": one.question.shown,
                    "expected": one.question.expected.in_words(),
                    "text": one.prompt.read(text).in_words(),
                    "cut": was_cut,
                    "seconds": round(seconds, 3),
                }
                for one, text, was_cut in zip(self.ready, texts, cut, strict=True)
            ],
        )


def _reason(error: Exception) -> str:
    if is_out_of_memory(error):
        return "there is no memory for them"
    logger.error("samples broke off", exc_info=error)
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"the model could not be asked ({lines[0][:160]})"
