"""The worker process: holds the run's lock, trains, and writes the end state.

The story is train.py.
"""

import gc
import logging
import os
import sys
import time
import traceback
import warnings
from pathlib import Path

from filelock import Timeout

from .errors import UserError
from .run_writer import RunWriter
from .runs import Run


def run_worker(folder: Path) -> int:
    """Train the run in `folder` to its end.

    Returns 0 fine (also after a stop), 1 failed, 2 the user must fix something.
    """
    run = Run(folder)
    first = int(os.environ.get("RANK", "0")) == 0  # of several processes one writes the run
    lock = run.lock()
    try:
        if first:
            lock.acquire(timeout=5)
    except Timeout:
        sys.stderr.write("Another worker holds this run.\n")
        return 1
    writer = RunWriter(run, enabled=first)
    writer.update(now=True)
    _set_up_log(first)
    try:
        from .train import Stopped, train
    except ImportError as error:
        return _fail(writer, "A package is missing.", str(error), "Run “make run” again.", code=1)
    try:
        train(run, writer)
        return 0
    except Stopped:
        writer.enter("paused" if run.checkpoints() else "stopped", **_over())
        return 0
    except UserError as error:
        return _fail(writer, error.what, error.where, error.fix, code=2)
    except Exception as error:  # noqa: BLE001 - the worker's edge: the log keeps the trace
        traceback.print_exc()
        gc.collect()
        return _fail(writer, *_explain(error, run), code=1)
    finally:
        lock.release()


def _set_up_log(first: bool) -> None:
    """A log that a person reads: one line an event, no hints to programmers."""
    level = logging.INFO if first else logging.ERROR
    logging.basicConfig(
        stream=sys.stdout, level=level, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S"
    )
    for name in ("httpx", "httpcore", "huggingface_hub", "datasets", "filelock", "accelerate"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)


def _fail(writer: RunWriter, what: str, where: str, fix: str, code: int) -> int:
    error = {"what": what, "where": where, "fix": fix, "user": code == 2}
    writer.event("error", **error)
    writer.enter("failed", error=error, **_over())
    return code


def _over() -> dict:
    return {"ended_at": time.time(), "progress": None, "eta_seconds": None}


def _explain(error: Exception, run: Run) -> tuple[str, str, str]:
    """What happened, where and how to fix it, for the failures people meet most."""
    state, recipe = run.state(), run.recipe()
    where = f"step {state.get('step') or 0} of {state.get('total_steps') or '?'}"
    text = str(error).strip().splitlines()[0][:240] if str(error).strip() else type(error).__name__
    if isinstance(error, MemoryError) or "out of memory" in text.lower():
        size = f"batch size {recipe.per_device_train_batch_size} × {recipe.max_length} tokens"
        return (
            "The memory ran out.",
            f"{where}, {size}",
            "Halve “Batch size” and double “Accumulation steps” (same result, slower), "
            "or choose the low-memory recipe.",
        )
    if isinstance(error, OSError) and error.errno == 28:
        return "The disk is full.", f"{where}: {run.dir}", "Free some space, then resume."
    fix = "Resume goes on from the last checkpoint." if run.checkpoints() else "See the log below."
    return f"Training failed: {text}", where, fix
