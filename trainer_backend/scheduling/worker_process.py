"""Starts, recognises and ends worker processes, and settles runs whose worker left no word.

What a worker does is train.py; who may start is scheduler.py.
"""

import os
import subprocess
import threading
from collections.abc import Sequence

from trainer_backend.home import read_json, write_json
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

LEFT_BEHIND = (HEARTBEAT, STALLED)  # what an earlier worker or its end left


def start_worker(run: Run, devices: Sequence[int] | None = None) -> subprocess.Popen:
    """Start the worker of a run in its own process group, its output going to worker.log.

    `devices` are numbers of GPUs as this process counts them; None means all of them.
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
    """Names for CUDA_VISIBLE_DEVICES of some of the GPUs this process itself may see."""
    ours = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
    return devices and [ours[one] if ours else str(one) for one in devices]


def settle(run: Run, returncode: int | None = None) -> None:
    """Write the end state of a run whose worker is gone without having written one."""
    state = run.state()
    if state["state"] not in ACTIVE:
        return
    warnings = state.get("warnings") or []
    if run.stop_requested():
        notes = [_forced_note(run)] if end_signal(returncode) == "SIGKILL" else []
        _end(run, after_stop(run.dir), warnings=[*warnings, *notes])
        return
    worker = read_json(run.dir / WORKER, {})
    reason = from_exit(run, returncode, worker.get("memory_kills"))
    error = {**reason.to_dict(), "user": False, "safe": what_is_safe(run)}
    if rank := reason_of(run.dir):  # of several processes: why the first of them ended
        error |= rank
    if note := halve_batch(run, error):
        enter(run.dir, "queued", warnings=[*warnings, note])
        return
    _end(run, "failed", error=error)


def _forced_note(run: Run) -> str:
    return f"Training did not end by itself and was ended at once. {what_is_safe(run)}"


def _end(run: Run, state: str, **facts) -> None:
    enter(run.dir, state, **facts)
    # the address may be slow to answer, and the scheduler has other runs to look after
    threading.Thread(target=send_notice, args=(run,), name="notice").start()


def force_stop(run: Run) -> bool:
    """End the worker's whole process group at once, if it is still the process that was started."""
    kill_ranks(run.dir)
    facts = read_json(run.dir / WORKER, {})
    return is_same_process(facts) and end_group(facts["pid"])
