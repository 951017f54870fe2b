"""What the app costs by the number of run folders in its home, and by the viewers of a run."""

import tempfile
import time
from pathlib import Path

from benchmarks import many_runs, viewers
from benchmarks.app_speed import start_app
from benchmarks.scaling.meter import Meter

EVENTS = 1_000  # of each run
TICKS = 20  # rounds of the scheduler; it makes two a second
LOOK_S = 5.0  # after the ten seconds in which the viewers come


def measure_runs(size: int) -> None:
    """The list, the table and the start of the app in a home of `size` run folders."""
    meter = Meter(size)
    with tempfile.TemporaryDirectory() as folder:
        many_runs.make_home(Path(folder), size, EVENTS)
        found = many_runs.look(Path(folder), time.process_time)
        for name, key in {
            "the list, first time": "list_s",
            "the table of the Runs tab": "table_s",
            "the list, again": "list_again_s",
            "opening a run": "open_s",
        }.items():
            meter.tell(name, found[key], found[key], 0.0, 0.0)
        _scheduler(meter, Path(folder))
        _start(meter, folder)


def _scheduler(meter: Meter, home: Path) -> None:
    """What an idle scheduler does each second, once it has seen the runs."""
    from trainer_backend.scheduling import Scheduler

    scheduler = Scheduler(home)
    scheduler.tick()
    with meter.step(f"{TICKS // 2} s of an idle scheduler"):
        for _ in range(TICKS):
            scheduler.tick()


def _start(meter: Meter, home: str) -> None:
    app, _, seconds = start_app(home)
    try:
        watched = viewers.App(app.pid, "")
        held = watched.memory_mb()
        meter.tell("start of the app", watched.cpu_seconds(), seconds, held, held)
    finally:
        app.terminate()
        app.wait()


def measure_viewers(size: int) -> None:
    """`size` viewers of one live run that ask once a second."""
    meter = Meter(size)
    with tempfile.TemporaryDirectory() as folder:
        process, address, _ = start_app(folder)
        try:
            app = viewers.App(process.pid, address)
            held = app.memory_mb()
            found = viewers.without_training(app, Path(folder), size, LOOK_S)
            seconds = viewers.ARRIVE_S + LOOK_S
            grown = app.memory_mb() - held
            meter.tell(
                "a second of the app", found["app_cores"], found["p95_ms"] / 1000, grown, grown
            )
            meter.tell("a first look", found["first_look_ms"] / 1000, seconds, 0.0, 0.0)
        finally:
            process.terminate()
            process.wait()
