"""Does it teach? quick_try on its sample: exact answers on unseen rows before and after.

Run: python -m benchmarks.teaches [--seeds 42,1,2] [--home DIR]. It uses the command line.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def train(home: str, seed: int) -> tuple[dict, float]:
    """Train once; return the run's summary and the wall-clock seconds of the whole command."""
    command = [sys.executable, "-m", "trainer_backend", "train", "quick_try", "--home", home]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, "--set", f"seed={seed}", "--json"], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1]), time.perf_counter() - began


def main() -> None:
    """Print a line a seed. The first line's time includes fetching the starter model, if needed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="42,1,2")
    parser.add_argument("--home")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = options.home or temporary
        print(f"{'seed':>6} {'rows':>5} {'base':>6} {'tuned':>6} {'loss':>8} {'in all':>8}")
        for seed in map(int, options.seeds.split(",")):
            run, seconds = train(home, seed)
            found = run["answers"]
            print(
                f"{seed:>6} {found['rows']:>5} {found['base']:>6.0%} {found['tuned']:>6.0%} "
                f"{run['eval_loss']:>8.4f} {seconds:>6.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
