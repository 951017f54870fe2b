"""Writes into run folders as a worker would. Fixtures are in the conftest files."""

import json
import time

from trainer_backend.home import write_json

ROWS = [{"prompt": f"Say {n}", "response": f"{n}!"} for n in range(40)]


def set_state(run, **facts):
    write_json(run.dir / "state.json", {**run.state(), "updated_at": time.time(), **facts})


def append(run, *events):
    with open(run.dir / "events.jsonl", "a", encoding="utf-8") as file:
        for event in events:
            file.write(json.dumps(event) + "\n")
