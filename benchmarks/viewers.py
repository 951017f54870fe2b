"""A hundred people look at one live run: how long a refresh takes, and what it costs the training.

Run: python -m benchmarks.viewers [--viewers 100] [--seconds 30] [--rounds 3]. Each viewer asks as
the page does: one question a second over its own connection, for what is new since the last. They
come one after the other within ten seconds; their first looks are told apart from the refreshes.
First while nothing trains (a run that is written to four times a second), then beside a real
training, whose steps are compared with and without viewers, in turn. App, training and viewers
share this machine.
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from benchmarks.app_speed import make_live_run, start_app
from benchmarks.tiny_model import ROWS, build

WARM_UP_S, ARRIVE_S = 6.0, 10.0
LARGER = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6}


@dataclass(frozen=True)
class App:
    """The app that is watched."""

    pid: int
    address: str

    def cpu_seconds(self) -> float:
        import psutil

        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    def memory_mb(self) -> float:
        import psutil

        return psutil.Process(self.pid).memory_info().rss / 2**20


class Page:
    """One viewer: a connection that stays open, and what the page would know by now."""

    def __init__(self, port: int, component: int, run: str, session: int):
        self.port, self.run, self.component = port, run, component
        self.session, self.known = f"viewer{session}", {"rev": None, "seq": 0, "stamp": None}
        self.opened, self.times = 0.0, []
        self.failed = 0

    async def watch(self, until: float, after: float = 0.0) -> None:
        """Come after some seconds; ask again a second after each answer, as live_chart.js does."""
        await asyncio.sleep(after)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while time.perf_counter() < until:
            began = time.perf_counter()
            answer = await self._ask(reader, writer)
            self.times.append(time.perf_counter() - began)
            self.opened = self.opened or self.times.pop()
            self.failed += "rev" not in answer
            self.known |= {key: answer[key] for key in self.known if key in answer}
            await asyncio.sleep(1.0)
        writer.close()

    async def _ask(self, reader, writer) -> dict:
        asked = {"run": self.run, "log_at": None, **self.known}
        facts = {"data": asked, "component_id": self.component, "fn_name": "watch_run"}
        body = json.dumps({**facts, "session_hash": self.session}).encode()
        head = f"POST /gradio_api/component_server HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        headers = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        if "transfer-encoding: chunked" in headers:
            return json.loads(await _chunks(reader))
        length = next(line for line in headers if line.startswith("content-length:"))
        return json.loads(await reader.readexactly(int(length.partition(":")[2])))


async def _chunks(reader) -> bytes:
    found = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        found += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return found


def chart_component(address: str) -> int:
    """The number the page knows the live chart by."""
    with urllib.request.urlopen(f"{address}/config") as answer:
        components = json.load(answer)["components"]
    return next(c["id"] for c in components if c["props"].get("elem_id") == "live-chart")


def look(app: App, run: str, viewers: int, seconds: float, write=None) -> dict:
    """Let them all watch for some seconds; the times of their refreshes in milliseconds."""
    address, before, own = app.address, app.cpu_seconds(), time.process_time()
    port, component = int(address.rpartition(":")[2]), chart_component(address)
    pages = [Page(port, component, run, number) for number in range(viewers)]

    async def everybody() -> None:
        until = time.perf_counter() + ARRIVE_S + seconds
        work = [page.watch(until, ARRIVE_S * n / viewers) for n, page in enumerate(pages)]
        work += [write(until)] if write else []
        await asyncio.gather(*work)

    asyncio.run(everybody())
    times = sorted(itertools.chain.from_iterable(page.times for page in pages))
    cpu = app.cpu_seconds() - before
    return {
        "first_look_ms": round(1000 * statistics.median(page.opened for page in pages), 1),
        "refreshes": len(times),
        "app_cores": round(cpu / (ARRIVE_S + seconds), 4),
        "viewers_cores": round((time.process_time() - own) / (ARRIVE_S + seconds), 2),
        "failed": sum(page.failed for page in pages),
        "p50_ms": round(1000 * statistics.median(times), 1),
        "p95_ms": round(1000 * times[int(0.95 * len(times))], 1),
        "worst_ms": round(1000 * times[-1], 1),
    }


def without_training(app: App, home: Path, viewers: int, seconds: float) -> dict:
    """A run that only looks alive: this process writes its steps."""
    run, writer = make_live_run(home, 2000)
    with run.lock():

        def write(step: int) -> None:
            writer.event("metrics", step=step, loss=0.1, learning_rate=1e-4, grad_norm=1.0)
            writer.update(now=True, step=step, loss=0.1)

        async def write_on(until: float) -> None:
            for step in itertools.count(2001):
                if time.perf_counter() > until:
                    return
                await asyncio.to_thread(write, step)  # a slow disk must not count as a slow answer
                await asyncio.sleep(0.25)

        found = look(app, run.id, viewers, seconds, write_on)
        writer.enter("finished")
    return found


def beside_training(app: App, home: Path, viewers: int, seconds: float, rounds: int) -> dict:
    """A real training: its steps without viewers, with them, without them again, and so on."""
    from trainer_backend.data.store import create_from_rows
    from trainer_backend.home import open_home
    from trainer_backend.recipe import Recipe
    from trainer_backend.runs import create_run

    model, home = build(home / "model", **LARGER), open_home(home)
    settings = {"base_model": str(model), "max_steps": 100_000, "save_steps": 0, "eval_steps": 0}
    settings |= {"per_device_train_batch_size": 16, "precision": "fp32", "eval_fraction": 0.0}
    recipe = Recipe.from_dict({**settings, "adapter": "full", "num_processes": 1})
    run = create_run(home, recipe, create_from_rows(home, ROWS * 8, name="numbers"))
    while (run.state().get("step") or 0) < 10:
        time.sleep(0.2)
    time.sleep(WARM_UP_S)
    looks, alone, watched = [], [], []
    for _ in range(rounds):  # in turn, as the machine itself is not equally fast all the time
        alone.append(step_seconds(run, ARRIVE_S + seconds))
        began = time.time()
        looks.append(look(app, run.id, viewers, seconds))
        watched.append(step_seconds(run, 0.0, since=began))
    alone.append(step_seconds(run, ARRIVE_S + seconds))
    run.request_stop()
    while run.is_alive():
        time.sleep(0.2)
    steps = {"step_ms_alone": in_ms(alone), "step_ms_watched": in_ms(watched)}
    more = statistics.mean(watched) / statistics.mean(alone) - 1
    return {"rounds": looks, **steps, "step_time_more": round(more, 3)}


def in_ms(times: list[float]) -> list[float]:
    return [round(1000 * one, 1) for one in times]


def step_seconds(run, seconds: float, since: float | None = None) -> float:
    """The median time between two steps from now on, for so long (or from a time until now)."""
    since = time.time() if since is None else since
    time.sleep(seconds)
    times = [one["t"] for one in run.events()[0] if one["type"] == "metrics" and one["t"] > since]
    return statistics.median(b - a for a, b in itertools.pairwise(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--viewers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    load, asked = os.getloadavg()[0], (arguments.viewers, arguments.seconds)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        process, address, _ = start_app(str(home))
        try:
            app = App(process.pid, address)
            found = {"load_before": load, "without": without_training(app, home, *asked)}
            found["beside"] = beside_training(app, home, *asked, arguments.rounds)
        finally:
            process.terminate()
            process.wait()
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
