"""Starts and kills worker processes, and settles runs whose worker ended without an end state.

Which run may start is not decided here.
"""

import os
import subprocess
import threading
from collections.abc import Sequence
from typing import Any

from trainer_backend.home import write_json
from trainer_backend.processes import (
    child_environment,
    end_group,
    end_signal,
    identity,
    is_same_process,
    start_in_own_group,
)
from trainer_backend.runs import (
    ACTIVE,
    Run,
    after_stop,
    enter,
    from_exit,
    halve_batch,
    memory_kills,
    send_notice,
    what_is_safe,
)
from trainer_backend.runs.files import HEARTBEAT, LOG, STALLED, WORKER
from trainer_backend.scheduling.launch import worker_command, worker_environment
from trainer_backend.scheduling.rank_watch import clear_ranks, kill_ranks, reason_of

LEFT_BEHIND = (HEARTBEAT, STALLED)  # files of an earlier worker


def start_worker(run: Run, devices: Sequence[int] | None = None) -> subprocess.Popen[bytes]:
    """Start the worker of a run in its own process group, with its output in worker.log.

    `devices` are GPU indices as this process sees them; None means all.
    """
    for name in LEFT_BEHIND:
        (run.dir / name).unlink(missing_ok=True)
    clear_ranks(run.dir)
    enter(run.dir, "preparing")
    kills, named = memory_kills(), visible_devices(devices)
    with open(run.dir / LOG, "ab") as log:
        process = start_in_own_group(
            worker_command(run, named),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=child_environment(TOKENIZERS_PARALLELISM="true", **worker_environment(run, named)),
        )
    taken = None if devices is None else list(devices)
    facts = {**identity(process.pid), "devices": taken, "memory_kills": kills}
    write_json(run.dir / WORKER, facts)
    return process


def visible_devices(devices: Sequence[int] | None) -> list[str] | None:
    """The entries of CUDA_VISIBLE_DEVICES for some of the GPUs that this process may see."""
    ours = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
    return [ours[one] if ours else str(one) for one in devices] if devices else None


def settle(run: Run, returncode: int | None = None) -> None:
    """Write the end state of an active run whose worker ended (`returncode` None: unknown how)."""
    state = run.state()
    if state["state"] not in ACTIVE:
        return
    warnings = state.get("warnings") or []
    if run.stop_requested():
        notes = [_forced_note(run)] if end_signal(returncode) == "SIGKILL" else []
        _end(run, after_stop(run.dir), warnings=[*warnings, *notes])
        return
    reason = from_exit(run, returncode, run.worker().get("memory_kills"))
    error = {**reason.to_dict(), "user": False, "safe": what_is_safe(run)}
    if rank := reason_of(run.dir):  # of several processes: the one that failed first
        error |= rank
    if note := halve_batch(run, error):
        enter(run.dir, "queued", warnings=[*warnings, note])
        return
    _end(run, "failed", error=error)


def _forced_note(run: Run) -> str:
    return f"Training did not stop by itself and was killed. {what_is_safe(run)}"


def _end(run: Run, state: str, **facts: Any) -> None:
    enter(run.dir, state, **facts)
    # in a thread: a slow address must not delay the scheduler
    threading.Thread(target=send_notice, args=(run,), name="webhook").start()


def force_stop(run: Run) -> bool:
    """Kill the worker and its process group, unless its id belongs to another process by now."""
    kill_ranks(run.dir)
    facts = run.worker()
    return is_same_process(facts) and end_group(facts["pid"])
