"""The app's side of the model process: token view, chat, export, asked over a local connection.

The process itself is model_server.py; it is started when first needed and can die without the app.
"""

import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from queue import Empty, Queue

from trainer_backend.errors import UserError
from trainer_backend.hardware import hardware
from trainer_backend.processes import child_environment
from trainer_backend.runs import ACTIVE, list_runs

START_LIMIT_S = 120
END_LIMIT_S = 5
SILENCE_LIMIT_S = 900
IDLE_LIMIT_S = 900


class ModelProcess:
    """Answers requests that need a model.

    Many threads may ask at once; each gets its own stream.
    """

    def __init__(self, home: Path):
        self.home = home
        self._process: subprocess.Popen | None = None
        self._connection: Connection | None = None
        self._replies: dict[int, Queue] = {}
        self._number = 0
        self._lock = threading.Lock()

    def token_view(self, dataset_id: str, row: int, recipe_fields: dict) -> dict:
        """A row as the exact tokens of training, each learned or context only."""
        return self._ask("token_view", dataset_id=dataset_id, row=row, recipe=recipe_fields)

    def token_lengths(self, dataset_id: str, recipe_fields: dict) -> Iterator[dict]:
        """Count a dataset's tokens: {"done", "total"}, and at last also "key" for read_report()."""
        fields = {name: value for name, value in recipe_fields.items() if value is not None}
        yield from self._stream("token_lengths", dataset_id=dataset_id, recipe=fields)

    def chat(
        self, run_or_model: str, messages: list[dict] | dict[str, list[dict]], **options
    ) -> Iterator[dict]:
        """Stream {"which", "text"} (the answer so far). Closing the generator stops the answer.

        Options: checkpoint, which (“tuned”, “base”, “both”), temperature, top_p, max_new_tokens.
        For “both” the messages may be {"base": [...], "tuned": [...]}.
        """
        yield from self._stream("chat", run=run_or_model, messages=messages, **options)

    def prepare(self, run_or_model: str) -> None:
        """Load a run's model in the background, so that the first answer comes sooner.

        Nothing happens while a training goes on: that has right of way.
        """
        if not any(run.state()["state"] in ACTIVE for run in list_runs(self.home)):
            threading.Thread(target=self._prepare, args=(run_or_model,), daemon=True).start()

    def _prepare(self, run_or_model: str) -> None:
        try:
            self._ask("load", run=run_or_model)
        except UserError:
            pass  # whoever asks for an answer is told

    def export(self, run_id: str, format: str) -> Path:
        """Export a run and return the finished zip file."""
        return Path(self._ask("export", run=run_id, format=format)["path"])

    def state(self) -> dict:
        """{"loaded": what is in memory, or None}; never starts the process."""
        if self._process is None or self._process.poll() is not None:
            return {"loaded": None}
        return self._ask("state")

    def unload(self) -> None:
        """Free the model's memory by ending the process; the next request starts it again."""
        with self._lock:
            self._end()

    def make_room(self) -> None:
        """Free a GPU that a training is about to need; on the CPU both have room."""
        if self._process is not None and hardware().kind == "cuda":
            for waiting in list(self._replies.values()):
                waiting.put(("error", _lost("A training needs the GPU and has right of way.")))
            self.unload()

    def _ask(self, op: str, **arguments) -> dict:
        answers = list(self._stream(op, **arguments))
        return answers[-1] if answers else {}

    def _stream(self, op: str, **arguments) -> Iterator[dict]:
        number, replies = self._send(op, arguments)
        done = False
        try:
            while True:
                kind, value = self._next(replies)
                if kind == "error":
                    done = True
                    raise UserError(**value)
                if kind == "done":
                    done = True
                    return
                yield value
        finally:
            self._replies.pop(number, None)
            if not done:
                self._cancel(number)

    def _next(self, replies: Queue) -> tuple[str, dict]:
        try:
            return replies.get(timeout=SILENCE_LIMIT_S)
        except Empty:
            self.unload()
            return "error", _lost("It gave no sign of life and was ended.")

    def _send(self, op: str, arguments: dict) -> tuple[int, Queue]:
        with self._lock:
            self._ensure_running()
            self._number += 1
            replies = self._replies[self._number] = Queue()
            request = {"number": self._number, "op": op, "arguments": arguments}
            try:
                self._connection.send_bytes(json.dumps(request).encode())
            except OSError:  # it died a moment ago; a new one answers
                self._end()
                self._ensure_running()
                self._connection.send_bytes(json.dumps(request).encode())
            return self._number, replies

    def _cancel(self, number: int) -> None:
        with self._lock:
            if self._connection is not None:
                try:
                    self._connection.send_bytes(
                        json.dumps({"number": number, "op": "cancel"}).encode()
                    )
                except OSError:
                    pass  # the process is gone, and the answer with it

    def _ensure_running(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._end()
        key = secrets.token_bytes(32)
        listener = Listener(authkey=key)
        log = open(self.home / "model_process.log", "wb")  # noqa: SIM115 - handed to the process
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "trainer_backend.serving.process.server",
                str(self.home),
                str(IDLE_LIMIT_S),
            ],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=child_environment(),
            start_new_session=True,
        )
        log.close()
        self._process.stdin.write(f"{listener.address}\n{key.hex()}\n".encode())
        self._process.stdin.flush()
        self._connection = self._accept(listener)
        threading.Thread(target=self._read, args=(self._connection,), daemon=True).start()

    def _accept(self, listener: Listener) -> Connection:
        waiting: Queue = Queue()
        threading.Thread(target=lambda: waiting.put(listener.accept()), daemon=True).start()
        began = time.monotonic()
        while time.monotonic() - began < START_LIMIT_S and self._process.poll() is None:
            try:
                return waiting.get(timeout=0.2)
            except Empty:
                continue
            finally:
                if not waiting.empty() or self._process.poll() is not None:
                    listener.close()
        self._end()
        raise UserError(**_lost("It did not start."))

    def _read(self, connection: Connection) -> None:
        """Hand each reply to the one who asked; when the connection ends, tell everybody."""
        try:
            while True:
                reply = json.loads(connection.recv_bytes())
                waiting = self._replies.get(reply["number"])
                if waiting is not None:
                    waiting.put((reply["kind"], reply["value"]))
        except (EOFError, OSError):
            for waiting in list(self._replies.values()):
                waiting.put(("error", _lost("It ended, most likely because memory ran out.")))

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(END_LIMIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdin.close()
            self._process = None


def _lost(why: str) -> dict[str, str]:
    return {
        "what": "The process that holds the model stopped.",
        "where": why,
        "fix": "Try again. If it happens again, choose a smaller model or end other programs.",
    }
