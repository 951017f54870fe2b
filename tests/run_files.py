"""Writes into run folders as a worker would. Fixtures are in the conftest files."""

import json

from trainer_backend.runs.state import write_state

ROWS = [{"prompt": f"Say {n}", "response": f"{n}!"} for n in range(40)]


def set_state(run, **facts):
    """Put a run into any state, also one it could not enter from where it is."""
    write_state(run.dir, {**run.state(), **facts})


def append(run, *events):
    with open(run.dir / "events.jsonl", "a", encoding="utf-8") as file:
        for event in events:
            file.write(json.dumps(event) + "\n")
