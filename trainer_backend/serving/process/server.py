"""The model process: token views, token counts, chat, export, evaluation with one loaded model.

It reads the address and key of its connection from standard input and ends with the connection.
Nothing is trained here.
"""

import json
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

import torch

from trainer_backend.corrections import telling
from trainer_backend.data.store import open_dataset
from trainer_backend.data.store.length_report import remember_report
from trainer_backend.downloads import POLL_S, Progress
from trainer_backend.errors import UserError
from trainer_backend.evaluation.engine.evaluate import evaluate_run
from trainer_backend.evaluation.request import request_of
from trainer_backend.export.exporter import export_run
from trainer_backend.export.files import zip_folder
from trainer_backend.hardware import hardware, hide_unusable_cards
from trainer_backend.models.loaded.asking import AskedWith
from trainer_backend.models.loaded.generate import Sampling
from trainer_backend.processes import lower_priority
from trainer_backend.recipe import Recipe
from trainer_backend.runs import Target, find_target, open_run
from trainer_backend.serving.process.chat import ChatModel
from trainer_backend.serving.process.many import answer_some, parts_of
from trainer_backend.serving.process.template_view import view_template
from trainer_backend.serving.process.token_view import count_job, view_row
from trainer_backend.tokens.counts import iter_token_lengths

REPORT_S = 0.5  # between two reports of a download


class Stopped(Exception):
    """Ends work whose request was cancelled."""


class Request:
    """One request in progress: whether it was cancelled, and how far its download is."""

    def __init__(self, number: int, op: str, send: Callable[[int, str, Any], None]):
        self.number, self.op, self._send = number, op, send
        self._cancelled = threading.Event()
        self._said = 0.0
        self.fetching: dict[str, Any] | None = None

    def stopped(self) -> bool:
        """Whether the asker has cancelled it."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """End it at its next sign of life."""
        self._cancelled.set()

    def progress(self, what: str, done: float, total: float, unit: str, words: str = "") -> None:
        """Tell the asker how far a download or preparation is; raises Stopped if it cancelled."""
        if self.stopped():
            raise Stopped
        facts = {"what": what, "done": done, "total": total, "unit": unit, "words": words}
        self.tell(facts)

    def tell(self, facts: dict[str, Any] | None) -> None:
        """Pass facts of a progress on, twice a second and when the step is another one."""
        before, self.fetching = self.fetching, facts
        is_new = facts and (before or {}).get("what") != facts["what"]
        if facts and (is_new or time.monotonic() - self._said >= REPORT_S):
            self._said = time.monotonic()
            self._send(self.number, "progress", facts)


class ModelServer:
    """Answers each request in a thread of its own; what needs the model takes turns at it.

    A request {"number", "op", "arguments"} calls do_<op>, a generator of values, each of which is
    sent as a reply {"number", "kind", "value"} of kind “value”; then comes “done” or “error”.
    Replies of kind “progress” tell how far a download or an evaluation is.
    """

    def __init__(self, home: Path, connection: Connection, idle_limit: float):
        self.home, self.connection, self.idle_limit = home, connection, idle_limit
        self._sending, self._heavy = threading.Lock(), threading.Lock()
        self._requests: dict[int, Request] = {}
        self._holder: Request | None = None  # of the model
        self._loaded: ChatModel | None = None
        self._last_used = time.monotonic()

    def serve(self) -> None:
        """Read requests until the connection ends, or until idle for `idle_limit` seconds."""
        while True:
            if not self.connection.poll(5.0):
                if not self._requests and time.monotonic() - self._last_used > self.idle_limit:
                    return
                continue
            try:
                request = json.loads(self.connection.recv_bytes())
            except (EOFError, OSError):
                return
            if request["op"] == "cancel":
                if known := self._requests.get(request["number"]):
                    known.cancel()
                continue
            asked = Request(request["number"], request["op"], self._send)
            self._requests[asked.number] = asked
            given = (asked, request["arguments"])
            threading.Thread(target=self._answer, args=given, daemon=True).start()

    def _answer(self, request: Request, arguments: dict[str, Any]) -> None:
        number, operation = request.number, getattr(self, "do_" + request.op)
        try:
            for value in operation(request, **arguments):
                self._send(number, "value", value)
            self._send(number, "done", None)
        except Stopped:
            self._send(number, "done", None)
        except UserError as error:
            self._send(number, "error", error.to_dict())
        except torch.OutOfMemoryError:
            self._loaded = None
            self._send(number, "error", _out_of_memory().to_dict())
        except Exception as error:  # noqa: BLE001 - the edge of this process: the log has the traceback
            traceback.print_exc()
            self._send(number, "error", _unexpected(error).to_dict())
        finally:
            self._requests.pop(number, None)
            self._last_used = time.monotonic()

    def _send(self, number: int, kind: str, value: Any) -> None:
        reply = json.dumps({"number": number, "kind": kind, "value": value}).encode()
        with self._sending:
            self.connection.send_bytes(reply)

    @contextmanager
    def _model_alone(self, request: Request) -> Iterator[None]:
        """Hold the one model; who waits is told what its holder does.

        A cancelled wait raises Stopped, and ends a load ahead that nobody else waits for.
        """
        while not self._heavy.acquire(timeout=POLL_S):
            holder = self._holder
            if request.stopped():
                if holder is not None and holder.op == "load":
                    holder.cancel()
                raise Stopped
            request.tell(holder.fetching if holder else None)
        try:
            self._holder = request
            yield
        finally:
            self._holder = None
            self._heavy.release()

    def do_state(self, request: Request) -> Iterator[dict]:
        yield {"loaded": self._loaded.target.base_model if self._loaded else None}

    def do_load(self, request: Request, run: str) -> Iterator[dict]:
        with self._model_alone(request):
            model = self._load(find_target(self.home, run), request.progress)
            yield {"loaded": model.target.base_model}

    def do_token_view(
        self, request: Request, dataset_id: str, row: int, recipe: dict
    ) -> Iterator[dict]:
        yield view_row(self.home, dataset_id, row, Recipe.from_dict(recipe), request.progress)

    def do_template_view(self, request: Request, dataset_id: str, recipe: dict) -> Iterator[dict]:
        asked = Recipe.from_dict(recipe)
        yield view_template(self.home, dataset_id, asked, request.progress)

    def do_token_lengths(self, request: Request, dataset_id: str, recipe: dict) -> Iterator[dict]:
        dataset, asked = open_dataset(self.home, dataset_id), Recipe.from_dict(recipe)
        job = count_job(self.home, dataset, asked, request.progress)
        counting = iter_token_lengths(dataset, job)
        try:
            while not request.stopped():
                done, total = next(counting)
                yield {"done": done, "total": total}
        except StopIteration as end:
            remember_report(dataset.dir, asked, end.value)
            yield {"done": len(end.value.rows), "total": len(end.value.rows), "key": end.value.key}
        finally:
            counting.close()

    def do_export(self, request: Request, run: str, format: str) -> Iterator[dict]:
        with self._model_alone(request):
            self._loaded = None
            folder = export_run(open_run(self.home, run), format, progress=request.progress)
            archive = zip_folder(folder)
            shutil.rmtree(folder)
            yield {"path": str(archive)}

    def do_evaluate(
        self, request: Request, run: str, options: dict[str, Any] | None = None
    ) -> Iterator[dict]:
        found = open_run(self.home, run)
        asked = request_of(found, options or {})
        asked.check(found)
        with self._model_alone(request):
            self._loaded = None  # an evaluation loads its models itself: there may be no room
            for one in asked.evaluations(found, telling(evaluate_run), request.progress):
                yield {"evaluation": one.to_dict()}
                if request.stopped():
                    return

    def do_chat(
        self,
        request: Request,
        run: str,
        messages: list[dict] | dict[str, list[dict]],
        which: str = "tuned",
        checkpoint: int | None = None,
        asked: dict[str, Any] | None = None,
        **options: Any,
    ) -> Iterator[dict]:
        sampling, given = Sampling(**options), AskedWith(**(asked or {}))
        with self._model_alone(request):
            if request.stopped():
                return
            model = self._load(find_target(self.home, run, checkpoint), request.progress)
            sides = ("base", "tuned") if which == "both" else (which,)
            own = {one: messages[one] if isinstance(messages, dict) else messages for one in sides}
            for side, answer in model.stream_both(own, sampling, given):
                if request.stopped():
                    return
                yield {"which": side, "text": answer.in_words(), **asdict(answer)}

    def do_answers(  # noqa: PLR0913 - what many prompts are asked with
        self,
        request: Request,
        run: str,
        asked: list[list[dict]],
        sides: list[str],
        checkpoint: int | None = None,
        given: dict[str, Any] | None = None,
        **options: Any,
    ) -> Iterator[dict]:
        def tick() -> None:
            if request.stopped():
                raise Stopped

        sampling, asks = Sampling(**options), AskedWith(**(given or {}))
        for places in parts_of(len(asked)):
            some = [asked[at] for at in places]
            with self._model_alone(request):  # between two parts another request may have a turn
                model = self._load(find_target(self.home, run, checkpoint), request.progress)
                for side in sides:
                    parts = answer_some(model, some, side, sampling, asks, tick)
                    for at, part in zip(places, parts, strict=True):
                        yield {"at": at, **part}

    def _load(self, target: Target, progress: Progress) -> ChatModel:
        if self._loaded is None or self._loaded.target != target:
            self._loaded = None  # first free the old one: there may be no room for two
            self._loaded = ChatModel(self.home, target, progress)
        return self._loaded


def _out_of_memory() -> UserError:
    free = hardware()
    return UserError(
        "The model does not fit into memory at the moment.",
        f"{free.name}: {free.memory_free:.1f} of {free.memory_total:.1f} GB free",
        "Wait until training is over, or choose a smaller model.",
    )


def _unexpected(error: Exception) -> UserError:
    text = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
    return UserError(
        "The model process failed to answer.",
        f"{type(error).__name__}: {text}",
        "Try again. The details are in model_process.log in the home folder.",
    )


def main() -> None:
    home, idle_limit = Path(sys.argv[1]), float(sys.argv[2])
    address, key = sys.stdin.readline().strip(), bytes.fromhex(sys.stdin.readline().strip())
    connection = Client(address, authkey=key)
    hide_unusable_cards()
    lower_priority(5)  # training on the same cores has priority
    ModelServer(home, connection, idle_limit).serve()


if __name__ == "__main__":
    main()
