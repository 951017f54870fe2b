"""Starts the process that asks lm-eval, shows its progress and reads its result. Free of torch.

Its own process: offline it must be before the first import, and it prints as it likes.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer_backend.downloads import Progress, silent
from trainer_backend.errors import UserError
from trainer_backend.home import new_id, read_json, write_json
from trainer_backend.models.hub_answers import within_reach
from trainer_backend.processes import child_environment, end_group, start_in_own_group
from trainer_backend.redact import redact
from trainer_backend.runs import Run, run_target

PACKAGE = "lm_eval"
MODULE = "trainer_backend.evaluation.harness.process"
REQUEST, SIDE, REPLY, LOG = "request.json", "side.json", "reply.json", "harness.log"
POLL_S = 0.5
TAIL = 4_000  # bytes of the log in which the newest percentage stands
_PERCENT = re.compile(rb"(\d{1,3})%\|")


def ask_harness(  # noqa: PLR0913 - the options of the command
    run: Run,
    step: int,
    tasks: Sequence[str],
    *,
    rows: int | None = None,
    chat: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """What lm-eval finds: {task: {metric: {"base", "tuned", "stderr", "base_stderr", "rows"}}}.

    `tasks` are its names or YAML files, `rows` at most so many of each, `chat` asks through the
    chat template. Raises UserError without the package, for an unknown task, and where a task's
    data are neither on this machine nor within reach.
    """
    check_installed()
    run_target(run, step)  # raises without this checkpoint
    with _folder(run.home) as folder:
        asked = {"run": str(run.dir), "step": step, "tasks": [*map(_meant, tasks)]}
        write_json(folder / REQUEST, {**asked, "rows": rows, "chat": chat})
        code = _wait(folder, progress)
        reply: Any = read_json(folder / REPLY, {})
        if "error" in reply:
            raise UserError(**reply["error"])
        if code or "results" not in reply:
            raise _ended(code, folder / LOG)
        return dict(reply["results"])


def check_installed() -> None:
    """Raise UserError where lm-eval is not installed."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise UserError(
            "The evaluation harness lm-eval is not installed.",
            "--harness",
            "Install it: pip install 'sft-studio[harness]'.",
            code="missing_package",
        )


def task_names(text: str | None) -> list[str]:
    """The tasks of --harness, names or YAML files with commas. Raises UserError for none."""
    names = [one.strip() for one in (text or "").split(",") if one.strip()]
    if text is not None and not names:
        raise UserError("No task is named.", "--harness", "Write --harness hellaswag,arc_easy.")
    return names


def _meant(task: str) -> str:
    """A task as lm-eval takes it: its name, or the whole path of its YAML file."""
    if not task.endswith((".yaml", ".yml")):
        return task
    path = Path(task).expanduser().resolve()
    if not path.is_file():
        raise UserError("There is no such file.", f"--harness {task}", "Check the path.")
    return str(path)


@contextmanager
def _folder(home: Path) -> Iterator[Path]:
    folder = home / "tmp" / new_id("harness")
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(folder: Path, progress: Progress) -> int:
    """Run the process to its end and return its exit code; it is ended if `progress` raises."""
    with open(folder / LOG, "wb") as log:
        process = start_in_own_group(
            [sys.executable, "-m", MODULE, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=child_environment(**_offline()),
        )
    try:
        while process.poll() is None:
            side: Any = read_json(folder / SIDE, {})
            what = side.get("what", "Starting lm-eval")
            progress(what, _percent(folder / LOG) if side else 0, 100, "%")
            time.sleep(POLL_S)
    finally:
        end_group(process.pid)
        process.wait()
    return process.returncode


def _offline() -> dict[str, str]:
    """The variables that keep libraries off the network, where the Hub is not within reach."""
    try:
        within_reach(lambda: True, "--harness")
    except UserError:
        return {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}
    return {}


def _percent(log: Path) -> int:
    """The newest percentage that lm-eval has printed; 0 without one."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        found = _PERCENT.findall(file.read())
    return int(found[-1]) if found else 0


def _ended(code: int, log: Path) -> UserError:
    lines = redact(log.read_text(encoding="utf-8", errors="replace")).strip().splitlines()
    last = lines[-1].strip()[:300] if lines else "it printed nothing"
    return UserError(
        f"lm-eval ended with exit code {code}.",
        f"its last line: {last}",
        "Try the task with the program lm_eval itself, or leave it out.",
    )
