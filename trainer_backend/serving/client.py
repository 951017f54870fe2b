"""The app's side of the model process: requests and streamed replies over a local connection.

The process starts with the first request and may die at any time without harming the app. Free of
torch.
"""

import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from trainer_backend.errors import UserError
from trainer_backend.hardware import hardware
from trainer_backend.processes import child_environment, start_in_own_group
from trainer_backend.runs import ACTIVE, list_runs

START_LIMIT_S = 120
END_LIMIT_S = 5
SILENCE_LIMIT_S = 900
IDLE_LIMIT_S = 900


# ("progress", of a download), ("value", one value), ("done", None), ("error", a UserError's parts)
Reply = tuple[str, Any]


class ModelProcess:
    """Answers requests that need a model. Thread-safe: each request has its own stream of replies.

    Every method that asks the process raises UserError: for a mistake in the request, or when the
    process does not start, ends, or is silent for SILENCE_LIMIT_S.
    """

    def __init__(self, home: Path):
        self.home = home
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._replies: dict[int, Queue[Reply]] = {}
        self._number = 0
        self._lock = threading.Lock()

    def token_view(self, dataset_id: str, row: int, recipe_fields: dict[str, Any]) -> dict:
        """A row as the exact tokens of training, each trained on or context only."""
        return [*self.token_view_steps(dataset_id, row, recipe_fields)][-1]

    def token_view_steps(
        self, dataset_id: str, row: int, recipe_fields: dict[str, Any]
    ) -> Generator[dict[str, Any]]:
        """Yields {"fetching": progress} while the tokenizer is downloaded, then the view.

        The progress is {"what", "done", "total", "unit", "words"}. Closing the generator stops it.
        """
        yield from self._stream("token_view", dataset_id=dataset_id, row=row, recipe=recipe_fields)

    def template_view(self, dataset_id: str, recipe_fields: dict[str, Any]) -> dict[str, Any]:
        """The chat template of a recipe, its first row, and what it does with the others."""
        fields = {name: value for name, value in recipe_fields.items() if value is not None}
        return self._ask("template_view", dataset_id=dataset_id, recipe=fields)

    def token_lengths(
        self, dataset_id: str, recipe_fields: dict[str, Any]
    ) -> Generator[dict[str, Any]]:
        """Count tokens: yields {"done", "total"}; the last one also has the report's "key".

        Before, while the tokenizer is downloaded: {"done": 0, "total": 0, "fetching": progress}.
        """
        fields = {name: value for name, value in recipe_fields.items() if value is not None}
        for part in self._stream("token_lengths", dataset_id=dataset_id, recipe=fields):
            yield {"done": 0, "total": 0, **part}

    def chat(
        self, run_or_model: str, messages: list[dict] | dict[str, list[dict]], **options: Any
    ) -> Iterator[dict[str, Any]]:
        """Yield the answer so far: {"which", "text", "content", "reasoning", "calls"}.

        `text` is the content and the calls in words. Closing the generator stops the answer.
        Options: checkpoint, which (“tuned”, “base”, “both”), asked ({"tools", "thinking",
        "control_tokens"}), temperature, top_p, max_new_tokens. For “both” the messages may be
        {"base": [...], "tuned": [...]}; a message may have `images`, a list of files.
        """
        with closing(self.chat_steps(run_or_model, messages, **options)) as steps:
            yield from (one for one in steps if "fetching" not in one)

    def chat_steps(
        self, run_or_model: str, messages: list[dict] | dict[str, list[dict]], **options: Any
    ) -> Generator[dict[str, Any]]:
        """What chat() yields, and before it {"fetching": progress} while the model is fetched."""
        yield from self._stream("chat", run=run_or_model, messages=messages, **options)

    def answers(
        self, run_or_model: str, asked: list[list[dict]], sides: list[str], **options: Any
    ) -> Generator[dict[str, Any]]:
        """Answer many conversations: yields {"at", "which", "text", …}, some at a time, in order.

        `at` is the place in `asked`; a conversation that cannot be asked has "error" instead of a
        text. Before, {"fetching": progress} while the model is fetched. `sides` are “tuned”,
        “base”. Options: checkpoint, given (as `asked` of chat), temperature, top_p, max_new_tokens.
        Closing the generator stops the answers.
        """
        yield from self._stream("answers", run=run_or_model, asked=asked, sides=sides, **options)

    def prepare(self, run_or_model: str) -> None:
        """Load a run's model in the background, so that the first answer comes sooner.

        Does nothing while a run is training: training has priority.
        """
        if not any(run.state()["state"] in ACTIVE for run in list_runs(self.home)):
            threading.Thread(target=self._prepare, args=(run_or_model,), daemon=True).start()

    def _prepare(self, run_or_model: str) -> None:
        try:
            self._ask("load", run=run_or_model)
        except UserError:
            pass  # the request for an answer will raise it again

    def evaluate(self, run_id: str, **options: Any) -> Generator[dict[str, Any]]:
        """Evaluate a run: yields {"progress": facts}, then {"evaluation": it} for each checkpoint.

        Options: dataset_id, rows, checkpoint (a step, “best”, “last”, “all”), metrics. The facts
        are {"what", "done", "total", "unit", "words"}. Closing the generator stops it; checkpoints
        that were evaluated before stay kept with the run.
        """
        for part in self._stream("evaluate", run=run_id, options=options):
            yield {"progress": part["fetching"]} if "fetching" in part else part

    def export(self, run_id: str, format: str) -> Path:
        """Export a run and return the finished zip file."""
        return Path(self._ask("export", run=run_id, format=format)["path"])

    def state(self) -> dict[str, str | None]:
        """{"loaded": the base model in memory, or None}; never starts the process."""
        if self._process is None or self._process.poll() is not None:
            return {"loaded": None}
        return self._ask("state")

    def unload(self) -> None:
        """Free the model's memory by ending the process; the next request starts a new one."""
        with self._lock:
            self._end()

    def make_room(self) -> None:
        """Free the GPU that a run is about to need; on a CPU there is room for both."""
        if self._process is not None and hardware().kind == "cuda":
            self._fail_all("A run needs the GPU, and training has priority.")
            self.unload()

    def _ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        answers = [one for one in self._stream(op, **arguments) if "fetching" not in one]
        return answers[-1] if answers else {}

    def _stream(self, op: str, **arguments: Any) -> Iterator[dict[str, Any]]:
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
                yield {"fetching": value} if kind == "progress" else value
        finally:
            self._replies.pop(number, None)
            if not done:
                self._cancel(number)

    def _next(self, replies: Queue[Reply]) -> Reply:
        try:
            return replies.get(timeout=SILENCE_LIMIT_S)
        except Empty:
            self.unload()
            return "error", _lost(
                f"It did not respond for {SILENCE_LIMIT_S // 60} minutes."
            ).to_dict()

    def _send(self, op: str, arguments: dict[str, Any]) -> tuple[int, Queue[Reply]]:
        with self._lock:
            connection = self._running()
            self._number += 1
            replies = self._replies[self._number] = Queue()
            request = {"number": self._number, "op": op, "arguments": arguments}
            try:
                connection.send_bytes(json.dumps(request).encode())
            except OSError:  # it has just died: a new one answers
                self._end()
                self._running().send_bytes(json.dumps(request).encode())
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

    def _running(self) -> Connection:
        """The connection to a process that runs; starts one if there is none."""
        alive = self._process is not None and self._process.poll() is None
        if alive and self._connection is not None:
            return self._connection
        self._end()
        key = secrets.token_bytes(32)
        listener = Listener(authkey=key)
        module = "trainer_backend.serving.process.server"
        with open(self.home / "model_process.log", "wb") as log:
            process = self._process = start_in_own_group(
                [sys.executable, "-m", module, str(self.home), str(IDLE_LIMIT_S)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=child_environment(),
            )
        assert process.stdin is not None
        process.stdin.write(f"{listener.address}\n{key.hex()}\n".encode())
        process.stdin.flush()
        connection = self._connection = self._accept(listener, process)
        threading.Thread(target=self._read, args=(connection,), daemon=True).start()
        return connection

    def _accept(self, listener: Listener, process: subprocess.Popen[bytes]) -> Connection:
        waiting: Queue[Connection] = Queue()
        threading.Thread(target=lambda: waiting.put(listener.accept()), daemon=True).start()
        began = time.monotonic()
        while time.monotonic() - began < START_LIMIT_S and process.poll() is None:
            try:
                return waiting.get(timeout=0.2)
            except Empty:
                continue
            finally:
                if not waiting.empty() or process.poll() is not None:
                    listener.close()
        self._end()
        raise _lost("It did not start.")

    def _read(self, connection: Connection) -> None:
        """Hand each reply to its request; when the connection ends, fail all open requests."""
        try:
            while True:
                reply = json.loads(connection.recv_bytes())
                waiting = self._replies.get(reply["number"])
                if waiting is not None:
                    waiting.put((reply["kind"], reply["value"]))
        except (EOFError, OSError):
            self._fail_all("It ended, most likely because memory ran out.")

    def _fail_all(self, why: str) -> None:
        for waiting in list(self._replies.values()):
            waiting.put(("error", _lost(why).to_dict()))

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
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None


def _lost(why: str) -> UserError:
    return UserError(
        "The process that holds the model stopped.",
        why,
        "Try again. If it happens again, choose a smaller model or close other programs.",
    )
