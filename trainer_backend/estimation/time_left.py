"""How long a training still takes, from what its steps, evaluations and saves have taken so far.

The answer check after the last step is not known beforehand and not counted.
"""

import math
import time
from collections.abc import Callable
from typing import Any

EVALUATING_SHARE = 1 / 3  # of a training step: the forward pass alone


class TimeLeft:
    """Measures the parts of a training one after another and adds up what is left of them.

    Until the first evaluation its seconds are guessed from those of training on as many rows:
    `eval_share` is the number of held-out rows by that of the training rows.
    """

    def __init__(self, eval_share: float = 0.0, clock: Callable[[], float] = time.monotonic):
        self._eval_share, self._clock = eval_share, clock
        self._since = clock()
        self._seconds: dict[str, list[float]] = {"step": [], "evaluation": [], "save": []}
        self._done_here: set[str] = set()  # what was done since the last step

    def begin(self) -> None:
        """Start the clock: what was before is preparation."""
        self._since = self._clock()

    def note(self, part: str) -> None:
        """The time since the last note was spent on `part`: "step", "evaluation" or "save"."""
        now = self._clock()
        self._seconds[part].append(now - self._since)
        self._since = now
        self._done_here = set() if part == "step" else {*self._done_here, part}

    def seconds(self, args: Any, state: Any) -> float | None:
        """Seconds to the end of the last step, its evaluation and its save; None before a step.

        `args` and `state` are the TrainingArguments and the TrainerState of transformers.
        """
        step = self._step()
        if step is None:
            return None
        last = state.max_steps
        evaluates = self._remaining("evaluation", args.eval_strategy, state.eval_steps, state)
        saves = self._remaining("save", args.save_strategy, state.save_steps, state)
        epoch = step * last / max(1e-9, state.num_train_epochs or 1)
        evaluation = self._mean("evaluation", epoch * self._eval_share * EVALUATING_SHARE)
        save = self._mean("save", 0.0)
        whole = (last - state.global_step) * step + evaluates * evaluation + saves * save
        return max(0.0, whole - (self._clock() - self._since))

    def _step(self) -> float | None:
        """Mean seconds of a step; the first one warms up and counts only while it is alone."""
        steps = self._seconds["step"]
        measured = steps[1:] or steps
        return sum(measured) / len(measured) if measured else None

    def _mean(self, part: str, otherwise: float) -> float:
        measured = self._seconds[part]
        return sum(measured) / len(measured) if measured else otherwise

    def _remaining(self, part: str, strategy: str, every: float, state: Any) -> int:
        """How often `part` is still done: `every` so many steps, and after the last one."""
        kind, last = str(getattr(strategy, "value", strategy)), state.max_steps
        if kind == "epoch":
            every = last / max(1, math.ceil(state.num_train_epochs or 1))
        elif kind != "steps" or not every:
            return 0
        if state.global_step >= last:
            return int(part not in self._done_here)
        before = state.global_step - (0 if part in self._done_here else 1)
        return math.ceil(last / every - 1e-9) - math.floor(max(0, before) / every + 1e-9)
