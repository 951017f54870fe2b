"""Starts workers in milliseconds: a process that has imported everything forks each of them.

Importing torch takes seconds in which nothing is written; 200 starts would take an hour. Nothing
here decides when a worker is killed.

Run by the kill storm: the nursery (`nursery SOCKET LEDGER`), the app (`app HOME SOCKET`) and, as
the worker's command of that app, the guardian (`guardian SOCKET RUN_DIR`), which ends when its
worker does.
"""

import os
import signal
import socket
import sys
import time
from pathlib import Path


def nursery(address: str, ledger: str) -> None:
    """Fork a worker for each run folder that is asked for; note each birth and death."""
    import peft  # noqa: F401 - what a worker imports, imported once
    import transformers.models.llama.modeling_llama  # noqa: F401

    import trainer_backend.worker.train  # noqa: F401
    from trainer_backend.worker.main import worker_process

    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
    server.settimeout(0.005)
    waiting: dict[int, socket.socket] = {}
    while True:
        try:
            guardian, _ = server.accept()
        except TimeoutError:
            _bury(waiting, ledger)
            continue
        guardian.settimeout(None)
        folder, files, *_ = socket.recv_fds(guardian, 4096, 1)
        child = os.fork()
        if child == 0:
            os.setsid()
            for number in (1, 2):
                os.dup2(files[0], number)
            server.close()
            os._exit(worker_process(Path(folder.decode())))
        os.close(files[0])
        waiting[child] = guardian
        note(ledger, "born", child, folder.decode())


def _bury(waiting: dict[int, socket.socket], ledger: str) -> None:
    while waiting:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        code = os.waitstatus_to_exitcode(status)
        note(ledger, "dead", pid, str(code))
        guardian = waiting.pop(pid)
        try:
            guardian.sendall(str(code).encode())
        except BrokenPipeError:
            pass  # nobody asks any more
        guardian.close()


def note(ledger: str, what: str, pid: int, more: str) -> None:
    """Append one line: when, what, which process, and its run folder or exit code."""
    with open(ledger, "a", encoding="utf-8") as file:
        file.write(f"{time.monotonic():.4f} {what} {pid} {more}\n")


def guardian(address: str, folder: str) -> None:
    """Stand in the place of the worker: wait for it and end in the same way."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(address)
        socket.send_fds(line, [folder.encode()], [1])
        code = int(line.recv(64) or b"1")
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if code not in (-9, -19) else None
        os.kill(os.getpid(), -code)
    sys.exit(code)


def app(home: str, address: str) -> None:
    """The app without its page: the scheduler of a home, until it is killed."""
    from trainer_backend.scheduling import Scheduler
    from trainer_backend.scheduling import worker_process as worker

    here = str(Path(__file__).resolve())

    def command(run, devices) -> list[str]:
        return [sys.executable, "-S", here, "guardian", address, str(run.dir)]

    worker.worker_command = command
    Scheduler(Path(home)).start()
    while True:
        time.sleep(60)


if __name__ == "__main__":
    {"nursery": nursery, "app": app, "guardian": guardian}[sys.argv[1]](*sys.argv[2:])
