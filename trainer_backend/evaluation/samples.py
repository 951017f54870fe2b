"""The answers that a run's model gave to a few held-out prompts while it trained. Free of torch.

Nothing is asked here.
"""

import json
from collections.abc import Mapping
from typing import Any

from trainer_backend.home import write_atomic
from trainer_backend.runs.files import SAMPLES
from trainer_backend.runs.run import Run

NEEDED = {"step": int, "row": int, "prompt": str, "expected": str, "text": str}


def samples_of(run: Run) -> list[dict[str, Any]]:
    """All samples in the order in which they were written; damaged lines are left out.

    Each is {"step", "row", "prompt", "expected", "text", "cut", "seconds"}: step 0 is the model
    before training, `row` the number in the file, `cut` that the limit of tokens ended the answer,
    and `seconds` how long the answers of its step took.
    """
    try:
        lines = (run.dir / SAMPLES).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [sample for line in lines if (sample := _sample(line)) is not None]


def _sample(line: str) -> dict[str, Any] | None:
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    known = isinstance(found, dict) and all(
        isinstance(found.get(name), kind) for name, kind in NEEDED.items()
    )
    return {"cut": False, "seconds": 0.0, **found} if known else None


def add_samples(run: Run, samples: list[Mapping[str, Any]]) -> None:
    """Append samples, one line each. Raises OSError when the disk is full."""
    lines = [json.dumps(one, ensure_ascii=False) + "\n" for one in samples]
    with open(run.dir / SAMPLES, "a", encoding="utf-8", errors="replace") as file:
        file.write("".join(lines))


def forget_after(run: Run, step: int) -> None:
    """Drop the samples behind a step, from which the run goes on, and damaged lines."""
    if (run.dir / SAMPLES).exists():
        kept = [one for one in samples_of(run) if one["step"] <= step]
        text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in kept)
        write_atomic(run.dir / SAMPLES, text)
