"""Kills a training at random moments, again and again, and looks what was lost.

Run: python -m benchmarks.kill_storm [--kills 200] [--seed 0]. 70 % of the kills end the worker,
half of these while it saves, and 30 % the app with its scheduler. The run saves after every step.
Nothing may be unresumable, started twice or lost; the weights must be those of an undisturbed run.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.tiny_model import ROWS, build

ROOT = Path(__file__).resolve().parent.parent
NURSERY = [sys.executable, "-m", "benchmarks.worker_nursery"]
PATIENCE_S = 60.0


class Storm:
    """One home, its app, its nursery, and what was seen."""

    def __init__(self, folder: Path, seed: int):
        from trainer_backend.home import open_home

        self.home, self.random = open_home(folder / "home"), random.Random(seed)
        self.address, self.ledger = str(folder / "nursery"), folder / "ledger"
        self.app: subprocess.Popen | None = None
        self.seen = {"worker": 0, "saving": 0, "app": 0, "unresumable": 0}
        self.noticed: list[float] = []
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.environment = {**environment, "TOKENIZERS_PARALLELISM": "false"}
        self.nursery = self._start("nursery", self.address, str(self.ledger))

    def _start(self, *what: str) -> subprocess.Popen:
        return subprocess.Popen([*NURSERY, *what], cwd=ROOT, env=self.environment)

    def keep_app(self) -> None:
        """Start the app if it is not there."""
        if self.app is None or self.app.poll() is not None:
            self.app = self._start("app", str(self.home), self.address)

    def close(self) -> None:
        for process in (self.app, self.nursery):
            if process is not None:
                process.kill()
                process.wait()

    def lives(self) -> list[tuple[int, float, float | None, str]]:
        """Every worker there was: process, birth, death, run folder."""
        born, found = {}, []
        for line in self.ledger.read_text().splitlines() if self.ledger.exists() else []:
            when, what, pid, more = line.split(" ", 3)
            if what == "born":
                born[int(pid)] = (float(when), more)
            else:
                began, folder = born.pop(int(pid))
                found.append((int(pid), began, float(when), folder))
        return found + [(pid, began, None, folder) for pid, (began, folder) in born.items()]

    def living(self) -> int | None:
        return next((pid for pid, _, death, _ in self.lives() if death is None), None)

    def until(self, happened, run) -> bool:
        """Wait until something is so, the app kept running; False when it never is."""
        end = time.monotonic() + PATIENCE_S
        while not happened():
            self.keep_app()
            if time.monotonic() > end or run.state()["state"] == "finished":
                return False
            time.sleep(0.002)
        return True

    def resume(self, run) -> None:
        """What a person does after a failure: ask for it to go on."""
        from trainer_backend.scheduling import queue_again

        if self.may_resume(run):
            queue_again(run)

    def may_resume(self, run) -> bool:
        """Whether the run has ended without being finished, and its worker is gone."""
        from trainer_backend.runs import RESUMABLE

        return run.state()["state"] in RESUMABLE and not run.is_alive()

    def kill_app(self, run) -> None:
        self.keep_app()
        self.resume(run)
        time.sleep(self.random.uniform(0, 1.5))
        self.app.kill()
        self.app.wait()
        self.seen["app"] += 1

    def kill_worker(self, run) -> bool:
        """End the worker at a random moment, or in the middle of a save; wait until it is told.

        One of five may die before its first step, the others do a few.
        """
        self.resume(run)
        if not self.until(lambda: self.living() is not None, run):
            return False
        saving, early = self.random.random() < 0.5, self.random.random() < 0.2
        if not early:  # let it do some steps
            self.until(lambda: run.state()["state"] in ("running", "saving"), run)
        time.sleep(self.random.uniform(0, 1.0))
        if saving:
            self.until(lambda: run.state()["state"] == "saving", run)
            time.sleep(self.random.uniform(0, 0.05))
        pid = self.living()
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        self.seen["worker"] += 1
        self.seen["saving"] += saving
        if not self.until(lambda: self.may_resume(run), run):
            self.seen["unresumable"] += run.state()["state"] != "finished"
            return True
        self.noticed.append(time.monotonic() - killed)
        return True


def make_run(home: Path, model: Path, steps: int):
    """A run that saves after every step, with dropout, accumulation and evaluation."""
    from trainer_backend.data.store import create_from_rows
    from trainer_backend.recipe import Recipe
    from trainer_backend.runs import create_run

    settings = {"base_model": str(model), "max_steps": steps, "save_steps": 1, "eval_steps": 10}
    settings |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "lora_r": 4}
    settings |= {"lora_dropout": 0.1, "learning_rate": 1e-3, "precision": "fp32", "max_length": 64}
    recipe = Recipe.from_dict({**settings, "eval_fraction": 0.1, "num_processes": 1})
    return create_run(home, recipe, create_from_rows(home, ROWS, name="numbers"))


def weights_hash(run) -> str:
    """Of the newest checkpoint's weights."""
    file = next(run.checkpoints()[-1].path.glob("*.safetensors"))
    return hashlib.sha256(file.read_bytes()).hexdigest()


def lost_or_double(run, steps: int) -> int:
    """Steps whose curve is missing or there twice."""
    seen = [row["step"] for row in run.metrics() if row["type"] == "metrics"]
    return len(set(range(1, steps + 1)) ^ set(seen)) + len(seen) - len(set(seen))


def finish(storm: Storm, run) -> bool:
    """Let a run go to its end undisturbed, resumed as often as needed."""
    end = time.monotonic() + 1200
    while run.state()["state"] != "finished" and time.monotonic() < end:
        storm.keep_app()
        storm.resume(run)
        time.sleep(0.1)
    return run.state()["state"] == "finished"


def measure(kills: int, steps: int, seed: int) -> dict:
    """Storm one run of `steps` steps, let it end, train an undisturbed one, compare."""
    with tempfile.TemporaryDirectory() as folder:
        model = build(Path(folder) / "model")
        storm, began = Storm(Path(folder), seed), time.monotonic()
        try:
            run = make_run(storm.home, model, steps)
            while storm.seen["worker"] + storm.seen["app"] < kills:
                if run.state()["state"] == "finished":
                    break
                if storm.random.random() < 0.3:
                    storm.kill_app(run)
                else:
                    storm.kill_worker(run)
            stormy = time.monotonic() - began
            at, done = run.state().get("step"), finish(storm, run)
            calm = make_run(storm.home, model, steps)
            finish(storm, calm)
            return {
                **storm.seen,
                "unresumable": storm.seen["unresumable"] + (not done),
                "started_twice": overlaps(storm.lives()),
                "lost_events": lost_or_double(run, steps),
                "same_weights": weights_hash(run) == weights_hash(calm),
                "same_curve": curve(run) == curve(calm),
                "set_aside": len(list((run.dir / "checkpoints").glob("damaged-*"))),
                "attempts": run.state()["attempt"],
                "step_at_the_end_of_the_storm": at,
                "noticed_after_s": round(statistics.median(storm.noticed), 2),
                "noticed_after_s_worst": round(max(storm.noticed), 2),
                "minutes": round(stormy / 60, 1),
            }
        finally:
            storm.close()


def overlaps(lives: list) -> int:
    """Workers of one run that lived at the same time as another one."""
    ordered = sorted(lives, key=lambda life: (life[3], life[1]))
    pairs = zip(ordered, ordered[1:], strict=False)
    return sum(a[3] == b[3] and (a[2] is None or a[2] > b[1]) for a, b in pairs)


def curve(run) -> list[tuple]:
    return [(row["type"], row["step"], row.get("loss")) for row in run.metrics()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=None, help="of the run; else enough")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    steps = arguments.steps or max(60, 4 * arguments.kills)
    found = measure(arguments.kills, steps, arguments.seed)
    print(json.dumps({"steps": steps, "load": os.getloadavg()[0], **found}, indent=1))
    good = found["same_weights"] and found["same_curve"]
    bad = found["unresumable"] + found["started_twice"] + found["lost_events"]
    sys.exit(0 if good and not bad else 1)


if __name__ == "__main__":
    main()
