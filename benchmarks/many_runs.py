"""A home with many long runs: how long the list takes, and opening one.

Run: python -m benchmarks.many_runs [--runs 500] [--events 100000]. Each figure is that of a process
that has just started, as after a restart of the app. The runs share one file of events on the disk
(hard links), so that 500 of them fit; the list does not read it, and opening a run reads it whole.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 5


def make_home(home: Path, runs: int, events: int) -> None:
    """Run folders as finished runs leave them."""
    from trainer_backend.data.store import create_from_rows
    from trainer_backend.home import open_home
    from trainer_backend.recipe import Recipe
    from trainer_backend.runs import create_run, write_state
    from trainer_backend.runs.files import EVENTS

    home = open_home(home)
    rows = [{"prompt": f"Say {n}", "response": f"{n}!"} for n in range(40)]
    dataset, shared = create_from_rows(home, rows, name="numbers"), None
    for number in range(runs):
        run = create_run(home, Recipe(), dataset, foreground=True, name=f"Run {number}")
        over = {"state": "finished", "step": events, "total_steps": events, "loss": 0.5}
        write_state(run.dir, {**run.state(), **over, "elapsed_seconds": 3600.0})
        if shared is None:
            write_events(shared := run.dir / EVENTS, events)
        else:
            os.link(shared, run.dir / EVENTS)


def write_events(path: Path, count: int) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for step in range(1, count + 1):
            event = {"type": "metrics", "t": 1.7e9 + step, "step": step, "loss": 2 / step + 0.1}
            event |= {"epoch": step / 1000, "learning_rate": 1e-4 * step / count, "grad_norm": 0.7}
            event |= {"mean_token_accuracy": 0.8, "entropy": 1.2, "num_tokens": 512 * step}
            event |= {"tokens_per_second": 512.3, "memory_gb": 3.21}
            file.write(json.dumps(event) + "\n")
            if step % 500 == 0:
                file.write(json.dumps({"type": "eval", "step": step, "eval_loss": 0.6}) + "\n")


def look(home: Path, clock: Callable[[], float] = time.perf_counter) -> dict:
    """In a fresh process: the list, the table of the Runs tab, opening one run, its second look."""
    import psutil

    from sft_ui.runs.tab import MAX_RUNS, runs_table
    from sft_ui.train.run_feed import RunFeeds
    from trainer_backend.runs import list_runs

    found, memory = {}, psutil.Process().memory_info().rss
    found["list_s"], runs = timed(clock, lambda: list_runs(home))
    found["table_s"], _ = timed(
        clock, lambda: runs_table([r.summary() for r in runs[:MAX_RUNS]], "")
    )
    found["list_again_s"], _ = timed(clock, lambda: [run.summary() for run in list_runs(home)])
    feeds = RunFeeds(home)
    found["open_s"], answer = timed(clock, lambda: feeds.of(runs[0].id).since({}, lambda _: None))
    found["points"], found["kilobytes"] = len(answer["points"]), len(json.dumps(answer)) / 1e3
    asked = {key: answer[key] for key in ("rev", "seq", "stamp")}
    found["look_s"], _ = timed(clock, lambda: feeds.of(runs[0].id).since(asked, lambda _: None))
    for run in runs[1:10]:
        feeds.of(run.id).since({}, lambda _: None)
    found["megabytes_a_run"] = (psutil.Process().memory_info().rss - memory) / 10e6
    return found


def timed(clock, work):
    """Seconds it took by a clock, and what came out."""
    began = clock()
    result = work()
    return clock() - began, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--look", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.look:
        print(json.dumps(look(arguments.look)))
        return
    with tempfile.TemporaryDirectory() as home:
        make_home(Path(home), arguments.runs, arguments.events)
        command = [sys.executable, "-m", "benchmarks.many_runs", "--look", home]
        rounds = []
        for _ in range(ROUNDS):
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            rounds.append(json.loads(done.stdout.splitlines()[-1]))
    middle = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
    print(json.dumps({"load": os.getloadavg()[0], **{k: round(v, 4) for k, v in middle.items()}}))


if __name__ == "__main__":
    main()
