"""The terminal shows the commands' own lines, and nothing that libraries print."""

import json
import os
import re
import subprocess
import sys

import pytest
from reading_cases import ROOT

SETTINGS = {"adapter": "full", "max_steps": 2, "max_length": 64, "learning_rate": 1e-3,
            "eval_fraction": 0}  # fmt: skip
OWN = re.compile(r"Note: |.*\b(step|preparing|loading|starting|waiting|saving|finish)", re.I)


@pytest.fixture
def terminal(home, tiny_model_dir, tmp_path):
    """Run a command as a person does: (exit code, output, what stands on stderr)."""
    path = tmp_path / "sums.jsonl"
    rows = ({"prompt": f"What is {at}+1?", "response": f"It is {at + 1}."} for at in range(12))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = {
        "DATA": str(path),
        "MODEL": str(tiny_model_dir),
        "OUT": str(tmp_path / "out.jsonl"),
        "MERGED": str(tmp_path / "merged"),
        "BASE": f"base_model={tiny_model_dir}",
    }

    def run(command: str, **more) -> tuple[int, str, str]:
        words = [(names | more).get(word, word) for word in command.split()]
        done = subprocess.run(
            [sys.executable, "-m", "trainer_backend", *words, "--home", str(home)],
            capture_output=True, text=True, cwd=ROOT, timeout=300, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return run


def test_no_library_prints_in_a_journey_on_the_terminal(terminal):
    code, out, err = terminal("check DATA --model MODEL --max-length 64")
    assert (code, err) == (0, "") and out.startswith("sums.jsonl: 12 rows.")
    code, out, err = terminal("prepare DATA --model MODEL --max-length 256 --out OUT")
    assert (code, err) == (0, "") and " packed row" in out and "1 packed rows" not in out
    changes = " ".join(f"--set {name}={value}" for name, value in SETTINGS.items())
    code, out, err = terminal(f"train quick_try --data DATA --set BASE --json {changes}")
    own = [line for line in re.split(r"[\r\n]+(?:\x1b\[K)?", err) if line.strip()]
    assert code == 0 and all(OWN.match(line) for line in own), own
    run = json.loads(out)["id"]
    code, out, err = terminal("chat RUN --prompt Hi --max-new-tokens 4", RUN=run)
    assert (code, err) == (0, "") and out
    code, out, err = terminal("export RUN --format merged --out MERGED", RUN=run)
    assert (code, err) == (0, "") and len(out.splitlines()) == 1
