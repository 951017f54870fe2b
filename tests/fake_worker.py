"""Plays the worker of a run in a process of its own: holds the lock, beats, steps, obeys a stop.

Started as `python fake_worker.py RUN MANNER`; nothing here needs torch.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from trainer_backend.runs.checkpoints import commit
from trainer_backend.runs.run import Run
from trainer_backend.runs.watched.heartbeat import Heartbeat
from trainer_backend.runs.writer import RunWriter

STEP_S = 0.02


def save(run: Run, writer: RunWriter, step: int) -> None:
    path = run.dir / "checkpoints" / f"checkpoint-{step}"
    path.mkdir(exist_ok=True)
    (path / "adapter_model.safetensors").write_bytes(b"w")
    commit(path, step, run=run.id)
    writer.event("checkpoint", step=step)


def end_as(manner: str) -> None:
    if manner == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif manner == "exit":
        sys.stdout.write("last words of the worker\n")
        sys.stdout.flush()
        os._exit(3)
    elif manner == "deaf":
        time.sleep(600)


def main() -> None:
    run, manner = Run(Path(sys.argv[1])), sys.argv[2]
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    with run.lock():
        writer = RunWriter(run)
        writer.heart = Heartbeat(run.dir).start()
        if manner == "grandchild":
            subprocess.Popen(
                [sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False
            )
        done = [one.step for one in run.checkpoints()]
        writer.enter("preparing")
        writer.enter("running", step=done[-1] if done else 0, total_steps=1000)
        for step in range(done[-1] + 1 if done else 1, 1001):
            if manner in ("finish", "lingering") and step > 3:
                break
            time.sleep(STEP_S)
            writer.event("metrics", step=step, loss=1.0 / step)
            writer.update(now=True, step=step)
            if step == 1:
                save(run, writer, 1)
            if step == 2:
                end_as(manner)
            if stopped or run.stop_requested():
                save(run, writer, step)
                writer.heart.close()
                writer.enter("paused")
                return
        writer.heart.close()
        writer.enter("finished")
    if manner == "lingering":
        time.sleep(600)


if __name__ == "__main__":
    main()
