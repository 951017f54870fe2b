"""What the page calls the state of a run; a state of the run folder keeps its own name."""

from collections.abc import Mapping
from typing import Any

from trainer_backend.errors import CODES

STATE_WORDS = {
    "idle": "No run",
    "queued": "Waiting",
    "preparing": "Preparing",
    "running": "Training",
    "saving": "Saving",
    "paused": "Stopped",
    "stopped": "Stopped",
    "finished": "Finished",
    "failed": "Failed",
}


def state_words(summary: Mapping[str, Any]) -> str:
    """The state of a run's summary; for a failed run with a short reason."""
    state = summary["state"]
    code = (summary.get("error") or {}).get("code")
    if state == "failed" and code in CODES:
        return f"Failed: {CODES[code]}"
    return "No progress" if summary.get("no_progress") else STATE_WORDS.get(state, state)
