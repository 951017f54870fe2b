"""Reads events.jsonl of a run: its events, and the rows of the training curves."""

import json
from pathlib import Path
from typing import Any

from trainer_backend.runs.files import EVENTS

MAX_STEP = 2**53  # a larger step is a damaged line


def read_events(folder: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The events after a byte offset, and the offset for the next call.

    An incomplete last line is left for the next call; damaged lines are skipped.
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


def read_event(line: bytes) -> dict[str, Any] | None:
    """The event of one line; None if it is damaged or its step is not a valid number."""
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


def curve_rows(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Training and evaluation rows; of a step repeated after a resume, only the last row."""
    rows: list[dict[str, Any]] = []
    for event in events:
        if event["type"] == "resumed":
            while rows and rows[-1]["step"] > event["step"]:  # not all of them: resumes may be many
                rows.pop()
        elif event["type"] in ("metrics", "eval"):
            rows.append(event)
    return rows
