"""events.jsonl of a run as it is read: lines that are events, and the rows of the curves.

Writing is run_writer.py; what the page keeps of a curve is sft_ui/train/run_feed.py.
"""

import json
from pathlib import Path

from trainer_backend.runs.files import EVENTS

MAX_STEP = 2**53  # above it a number is damage


def read_events(folder: Path, offset: int = 0) -> tuple[list[dict], int]:
    """Events from a byte offset on, and the offset to ask from next.

    A torn last line waits; lines that are no events are skipped (the next worker counts them).
    """
    try:
        with open(folder / EVENTS, "rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], 0
    whole = data[: data.rfind(b"\n") + 1]
    found = [event for line in whole.splitlines() if (event := read_event(line))]
    return found, offset + len(whole)


def read_event(line: bytes) -> dict | None:
    """The event of one line; None when it is none, or its step is no number of a step."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        return None
    step = event.get("step")
    needs_step = event["type"] in ("metrics", "eval", "resumed")
    is_step = isinstance(step, int) and 0 <= step < MAX_STEP
    return None if needs_step and not is_step else event


def curve_rows(events: list[dict]) -> list[dict]:
    """Training and evaluation rows; steps done again after a resume as done the last time."""
    rows: list[dict] = []
    for event in events:
        if event["type"] == "resumed":
            rows = [row for row in rows if row["step"] <= event["step"]]
        elif event["type"] in ("metrics", "eval"):
            rows.append(event)
    return rows
