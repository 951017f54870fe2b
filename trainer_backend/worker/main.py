"""The worker process: holds the run's lock, trains, and writes the end state."""

import faulthandler
import gc
import logging
import os
import shutil
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from filelock import Timeout

from trainer_backend.errors import UserError
from trainer_backend.processes import rank_and_size
from trainer_backend.runs import (
    Heartbeat,
    Run,
    RunWriter,
    after_stop,
    describe,
    halve_batch,
    redact_output,
    what_is_safe,
)
from trainer_backend.runs.files import ROWS
from trainer_backend.scheduling import RankWatch
from trainer_backend.scheduling.rank_watch import EXIT_CODE

FINE, FAILED, USER = 0, 1, 2


def worker_process(folder: Path) -> int:
    """`python -m trainer_backend worker FOLDER`; returns the exit code of run_worker."""
    _set_up_log(first=rank_and_size()[0] == 0)
    return run_worker(folder)


def run_worker(folder: Path) -> int:
    """Train the run in `folder` to its end.

    Returns 0 fine (also after a stop), 1 failed, 2 the user must fix something.
    """
    run, first = Run(folder), rank_and_size()[0] == 0  # only the first process writes
    lock = run.lock()
    try:
        if first:
            lock.acquire(timeout=5)
    except Timeout:
        sys.stderr.write("Another worker holds this run.\n")
        return FAILED
    writer = RunWriter(run, enabled=first)
    if first:
        writer.heart = Heartbeat(folder).start()

    def lost(error: dict[str, Any]) -> None:
        """Exit: another process has ended and this one is stuck in a collective call."""
        if first and not writer.has_ended():
            _fail(writer, {**error, "user": False, "safe": what_is_safe(run)})
        os._exit(EXIT_CODE)

    try:
        began = run.state().get("started_at") or time.time()
        writer.enter("preparing", started_at=began, warnings=[])
        with RankWatch(folder, lost) as ranks:
            return _train(run, writer, ranks)
    finally:
        if first:
            shutil.rmtree(folder / ROWS, ignore_errors=True)
        if writer.heart:
            writer.heart.close()
        lock.release()


def _train(run: Run, writer: RunWriter, ranks: RankWatch) -> int:
    try:
        from trainer_backend.worker.outcome import Stopped
        from trainer_backend.worker.train import train
    except ImportError as error:
        traceback.print_exc()
        return _fail_all(writer, ranks, describe(error, run))
    try:
        train(run, writer)
    except Stopped:
        writer.enter(after_stop(run.dir))
    except Exception as error:  # noqa: BLE001 - the worker's edge: the log keeps the trace
        if not isinstance(error, UserError):
            traceback.print_exc()
        facts = describe(error, run)
        del error
        gc.collect()
        return _fail_all(writer, ranks, facts)
    ranks.report_end()
    return FINE


def _fail_all(writer: RunWriter, ranks: RankWatch, error: dict[str, Any]) -> int:
    """Fail with the error of the process that failed first, in this process too."""
    if ranks.first_is_done():
        return FINE
    cause = None if error["user"] else ranks.cause()
    if cause:
        ranks.follow(cause)
        return _fail(writer, {**error, **cause})
    ranks.report_end(error)
    return _fail(writer, error)


def _set_up_log(first: bool) -> None:
    """A readable log: one line per event, no secrets, no library warnings."""
    faulthandler.enable()
    redact_output()
    level = logging.INFO if first else logging.ERROR
    logging.basicConfig(
        stream=sys.stdout, level=level, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S"
    )
    for name in ("httpx", "httpcore", "huggingface_hub", "datasets", "filelock", "accelerate"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)


def _fail(writer: RunWriter, error: dict[str, Any]) -> int:
    """Write why the run failed, or queue it again with half the batch; returns the exit code."""
    if not writer.enabled:
        return FAILED
    writer.event("error", **error)
    if note := halve_batch(writer.run, error):
        writer.warn(note)
        writer.enter("queued")
        return FINE
    writer.enter("failed", error=error)
    return USER if error["user"] else FAILED
