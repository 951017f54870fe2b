"""Runs the measurements: all but the long ones, or those named. Each one's file says what it does.

Run: make bench, or make bench ARGS="app_speed data".
"""

import subprocess
import sys

ALL = ("app_speed", "teaches", "data", "preparation", "throughput")
LONG = (
    "answers",
    "lengths",
    "estimates",
    "kill_storm",
    "many_runs",
    "scale",
    "viewers",
    "soak",
    "gpu",
)


def main() -> int:
    """Run each named measurement in a process of its own; 1 if one of them failed."""
    names = sys.argv[1:] or ALL
    unknown = [name for name in names if name not in ALL + LONG]
    if unknown:
        print(f"There is no measurement {unknown[0]!r}; choose from: {', '.join(ALL + LONG)}.")
        return 2
    failed = False
    for name in names:
        print(f"\n== {name}", flush=True)
        failed = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode or failed
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
