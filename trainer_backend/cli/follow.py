"""Follows a run that the terminal started: progress, Ctrl-C, hangs, and the report at its end.

It watches one worker of its own and knows nothing of the app's queue.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from trainer_backend.evaluation.shown import said_first, with_evaluations
from trainer_backend.processes import on_stop_signal
from trainer_backend.runs import ACTIVE, Run
from trainer_backend.scheduling import HangWatch, force_stop, settle, start_worker

POLL_S = 0.3


def follow(run: Run, as_json: bool) -> int:
    """Start the worker, show its progress until it ends, print the run, return the exit code.

    Ctrl-C or SIGTERM saves and pauses; a second one ends the run immediately.
    """
    with _ended_like_ctrl_c():
        process = start_worker(run)
        _wait_for(run, process, as_json)
        settle(run, process.returncode)
    if run.state()["state"] == "queued":  # out of memory: try again with half the batch size
        return follow(run, as_json)
    _show_progress(run, as_json, end="\n")
    return _report_end(run, as_json)


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """A container that stops sends SIGTERM: the run is then saved like after Ctrl-C."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    restore = on_stop_signal(interrupt)
    try:
        yield
    finally:
        restore()


def _wait_for(run: Run, process: subprocess.Popen[bytes], as_json: bool) -> None:
    watch, asked = HangWatch(), False
    while process.poll() is None:
        try:
            if watch.look(run):
                force_stop(run)
            _show_progress(run, as_json)
            process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            continue
        except KeyboardInterrupt:
            if asked:
                force_stop(run)
            else:
                print("\nFinishing the step and saving…", file=sys.stderr)
                run.request_stop()
            asked = True
    watch.forget(run)


def _show_progress(run: Run, as_json: bool, end: str = "") -> None:
    if as_json or not sys.stderr.isatty():
        return
    print("\r\033[K" + progress_line(run), end=end, file=sys.stderr, flush=True)


def progress_line(run: Run) -> str:
    """One line for the terminal: state, progress bar, current phase or stall, loss."""
    state = run.state()
    step, total = state.get("step") or 0, state.get("total_steps") or 0
    parts = [state["state"]]
    if total:
        filled = int(30 * step / total)
        parts.append(f"[{'█' * filled}{'·' * (30 - filled)}] {step}/{total}")
    if state["state"] in ACTIVE:
        parts += _phase(run, state)
    if state.get("loss") is not None:
        parts.append(f"loss {state['loss']:.4f}")
    return "  ".join(parts)


def _phase(run: Run, state: dict[str, Any]) -> list[str]:
    found = []
    if facts := state.get("progress"):
        counted = f"{facts['done']:g}/{facts['total']:g} {facts['unit']}"
        found.append(f"{facts['what']} {facts.get('words') or counted}")
    elif state["state"] == "preparing":
        found.append("Starting the training process")
    elif state.get("eta_seconds"):
        found.append(f"{timedelta(seconds=round(state['eta_seconds']))} left")
    if stuck := run.stalled():
        found.append(f"no progress for {stuck['seconds']} s (Ctrl-C stops it)")
    return found


def _report_end(run: Run, as_json: bool) -> int:
    summary = with_evaluations(run, examples=True)
    error = summary["error"]
    if error:
        _print_error(run, error)
    for warning in summary["warnings"]:
        print(f"Note: {warning}", file=sys.stderr)
    for said in said_first(run):
        print(said, file=sys.stderr)
    if not as_json:
        print(f"Run folder: {run.dir}")
    print(json.dumps(summary, ensure_ascii=False))
    if summary["state"] == "failed":
        return 2 if error and error.get("user") else 1
    return 0


def retry_commands(run_id: str, offer: dict[str, Any]) -> list[str]:
    """The commands that start a failed run again, one for each choice on offer."""
    command = f"python -m trainer_backend retry {run_id}"
    if "choices" in offer:
        changes = [" ".join(f"--set {k}={v}" for k, v in one.items()) for one in offer["choices"]]
        return [f"{command} {one}" for one in changes]
    return [command] if offer.get("retry") is not None else []


def _print_error(run: Run, error: dict[str, Any]) -> None:
    lines = [error["what"], f"  where: {error['where']}", f"  fix:   {error['fix']}"]
    lines += [f"  safe:  {error['safe']}"] if error.get("safe") else []
    lines += [f"  or:    {command}" for command in retry_commands(run.id, error.get("offer") or {})]
    print("\n".join(lines), file=sys.stderr)
