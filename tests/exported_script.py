"""Runs the script of an export as a user would, and reads the losses it logged."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def execute(folder, home) -> list[dict]:
    """Run train.py as a user would, elsewhere, with the project's folder on PYTHONPATH."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(folder / "train.py")],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    state = json.loads((folder / "output" / "trainer_state.json").read_text())
    return state["log_history"]


def curve(rows, name) -> dict[int, float]:
    return {row["step"]: row[name] for row in rows if name in row}
