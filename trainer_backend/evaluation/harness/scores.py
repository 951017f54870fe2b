"""lm-eval's tasks on a loaded model, and its results as plain numbers.

Its results are {"results": {task: {"metric,filter": value}}} (EleutherAI/lm-evaluation-harness).
"""

import difflib
import importlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from trainer_backend.errors import UserError
from trainer_backend.models.loaded.pretrained import AnyModel

ROWS_AT_ONCE = 8  # on a CPU; on a GPU lm-eval finds out itself
RESAMPLES = 1_000  # for standard errors that have no formula
FETCH = "Fetch it on a machine with network, in the same Hub cache, then try again."


def _lm_eval() -> ModuleType:
    for part in ("tasks", "models.huggingface"):
        importlib.import_module(f"lm_eval.{part}")
    return importlib.import_module("lm_eval")


class Harness:
    """lm-eval and the tasks to run: names or YAML files, at most `rows` questions of each.

    `package` is lm-eval itself; tests give another object with its calls.
    """

    def __init__(
        self, tasks: Sequence[str], rows: int | None = None, chat: bool = False, package: Any = None
    ):
        self.tasks, self.rows, self.chat = tasks, rows, chat
        self.package = package or _lm_eval()
        self.manager = self.package.tasks.TaskManager()

    def check(self) -> None:
        """Raise UserError for a task that is not known or whose data are not here."""
        known = self.manager.all_tasks
        for task in self.tasks:
            if task not in known and not Path(task).is_file():
                near = ", ".join(difflib.get_close_matches(task, known, 3))
                fix = f"Perhaps {near} is meant." if near else "lm_eval ls tasks lists them."
                raise UserError(f"lm-eval has no task “{task[:60]}”.", "--harness", fix)
            try:
                self.manager.load([task])
            except (OSError, ValueError) as error:  # of datasets, for data that are not here
                lines = str(error).strip().splitlines() or [type(error).__name__]
                raise UserError(
                    "The data of this task are not on this machine.",
                    f"--harness {Path(task).name}: {lines[0][:200]}",
                    FETCH,
                ) from error

    def results(self, model: AnyModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """The tasks on a loaded model, as lm-eval gives them."""
        asked = self.package.models.huggingface.HFLM(
            pretrained=model,
            tokenizer=tokenizer,
            backend="causal",
            batch_size="auto" if torch.cuda.is_available() else ROWS_AT_ONCE,
        )
        with torch.inference_mode():
            found = self.package.simple_evaluate(
                model=asked,
                tasks=list(self.tasks),
                task_manager=self.manager,
                limit=self.rows,
                apply_chat_template=self.chat,
                log_samples=False,
                bootstrap_iters=RESAMPLES,
            )
        return dict(found or {})


def scores(base: Mapping[str, Any], tuned: Mapping[str, Any]) -> dict[str, Any]:
    """Both results as {task: {metric: {"base", "tuned", "stderr", "base_stderr", "rows"}}}.

    `stderr` is the tuned model's. A metric of another filter than “none” is named with it.
    """
    found: dict[str, Any] = {}
    for task, values in (tuned.get("results") or {}).items():
        other = (base.get("results") or {}).get(task) or {}
        counted = (tuned.get("n-samples") or {}).get(task) or {}
        for key, value in values.items():
            name, _, kind = str(key).partition(",")
            if not kind or name.endswith("_stderr") or _number(value) is None:
                continue
            error = f"{name}_stderr,{kind}"
            found.setdefault(task, {})[name if kind == "none" else f"{name} ({kind})"] = {
                "base": _number(other.get(key)),
                "tuned": _number(value),
                "stderr": _number(values.get(error)),
                "base_stderr": _number(other.get(error)),
                "rows": counted.get("effective"),
            }
    return found


def _number(value: Any) -> float | None:
    """A finite number, or None: lm-eval writes “N/A” where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
