"""A few people watch a live run for a long time: the app's memory and open files must stay flat.

Run: python -m benchmarks.soak [--minutes 20] [--viewers 5]. Each viewer asks once a second, and
loads the page anew every ten seconds. As many pages as the app remembers are opened before. The run
is written to ten times a second.
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
from pathlib import Path

from benchmarks.app_speed import make_live_run, start_app
from benchmarks.viewers import Page, chart_component

SAMPLE_S = 5.0
TOLD_EVERY = 120  # samples
MAX_PAGES = 300  # as sft_ui/layout.py says
RELOAD_S = 10.0
WARM_UP = 0.25  # share of the time in which caches fill


async def viewer(address: str, component: int, run: str, sessions, until: float) -> int:
    """Watch, and load the page anew again and again; how many answers were no answers."""
    port, failed = int(address.rpartition(":")[2]), 0
    while (now := time.perf_counter()) < until:
        await asyncio.to_thread(lambda: urllib.request.urlopen(address).read())
        await asyncio.to_thread(lambda: urllib.request.urlopen(f"{address}/config").read())
        page = Page(port, component, run, next(sessions))
        await page.watch(min(until, now + RELOAD_S))
        failed += page.failed
    return failed


async def open_pages(address: str, component: int, run: str, sessions) -> None:
    """A look or two from each of as many pages as the app remembers."""
    port, until = int(address.rpartition(":")[2]), time.perf_counter() + 20
    pages = [Page(port, component, run, next(sessions)) for _ in range(MAX_PAGES)]
    await asyncio.gather(*(page.watch(until, 0.05 * n) for n, page in enumerate(pages)))


async def write_steps(writer, until: float) -> None:
    """Ten steps a second, as a fast training writes them."""
    for step in itertools.count(1001):
        if time.perf_counter() > until:
            return
        writer.event("metrics", step=step, loss=1 / step, learning_rate=1e-4, grad_norm=1.0)
        writer.update(step=step, loss=1 / step)
        await asyncio.sleep(0.1)


async def sample(pid: int, until: float) -> list[tuple[float, ...]]:
    """(minutes, megabytes, open files, threads) of a process, every few seconds."""
    import psutil

    process, began, found = psutil.Process(pid), time.perf_counter(), []
    while (now := time.perf_counter()) < until:
        size = process.memory_info().rss / 1e6
        found.append(((now - began) / 60, size, process.num_fds(), process.num_threads()))
        if len(found) % TOLD_EVERY == 0:  # what a long measurement found must not wait for its end
            print(json.dumps({"minutes": round(found[-1][0]), **trends(found)}), flush=True)
        await asyncio.sleep(SAMPLE_S)
    return found


def trend(samples: list[tuple[float, ...]], column: int) -> dict:
    """First and last fifth after warming up, and the slope an hour by least squares."""
    kept = samples[int(WARM_UP * len(samples)) :]
    minutes, values = [one[0] for one in kept], [one[column] for one in kept]
    fifth = max(1, len(kept) // 5)
    slope = statistics.linear_regression(minutes, values).slope * 60
    first, last = statistics.mean(values[:fifth]), statistics.mean(values[-fifth:])
    return {"first": round(first, 1), "last": round(last, 1), "an_hour": round(slope, 1)}


def trends(samples: list[tuple[float, ...]]) -> dict[str, dict]:
    names = {"megabytes": 1, "open_files": 2, "threads": 3}
    return {name: trend(samples, column) for name, column in names.items()}


def soak(minutes: float, viewers: int) -> dict:
    """Let them watch; how memory, open files and threads of the app went."""
    with tempfile.TemporaryDirectory() as folder:
        app, address, _ = start_app(folder)
        try:
            run, writer = make_live_run(Path(folder), 1000)
            component, sessions = chart_component(address), itertools.count()
            asyncio.run(open_pages(address, component, run.id, sessions))
            until = time.perf_counter() + 60 * minutes

            async def everything():
                watching = [
                    viewer(address, component, run.id, sessions, until) for _ in range(viewers)
                ]
                work = [sample(app.pid, until), write_steps(writer, until), *watching]
                return await asyncio.gather(*work)

            with run.lock():
                samples, _, *failed = asyncio.run(everything())
        finally:
            app.terminate()
            app.wait()
    counts = {"pages": next(sessions), "failed": sum(failed)}
    return {"minutes": minutes, **counts, **trends(samples)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--viewers", type=int, default=5)
    arguments = parser.parse_args()
    found = soak(arguments.minutes, arguments.viewers)
    print(json.dumps({"load": os.getloadavg()[0], **found}, indent=1))


if __name__ == "__main__":
    main()
