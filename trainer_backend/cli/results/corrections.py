"""The command about corrections: what is kept for the data of a run.

Only choosing and printing happens here.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from trainer_backend.corrections import Correction, Kept, kept_for, outcome_for, plan_replay
from trainer_backend.corrections import take_back as take_back_one
from trainer_backend.errors import UserError
from trainer_backend.runs import Run, open_run
from trainer_backend.runs.files import SPEC


def do_corrections(home: Path, arguments: argparse.Namespace) -> int:
    """Print the corrections of a run's data, and what training on them would do."""
    run = _find(home, arguments.run)
    number = arguments.take_back
    kept = kept_for(run) if number is None else take_back_one(run, number)
    outcome = outcome_for(run)
    plan = _plan(run) if kept.corrections else []
    if arguments.json:
        print(json.dumps(_as_json(kept, plan, outcome.sentence() if outcome else None)))
        return 0
    for one in kept.corrections:
        print(f"{one.number:>4}  {_short(one.question)}  →  {_short(one.answer.in_words())}")
    if not kept.corrections:
        print("No corrections are kept for the data of this run.")
    for line in [*plan, *([outcome.sentence()] if outcome else [])]:
        print(line)
    return 0


def _find(home: Path, run: str) -> Run:
    folder = Path(run).expanduser()
    return Run(folder.resolve()) if (folder / SPEC).exists() else open_run(home, run)


def _plan(run: Run) -> list[str]:
    try:
        return plan_replay(run).sentences()
    except UserError as error:
        return [f"{error.what} {error.fix}"]


def _short(text: str, most: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _as_json(kept: Kept, plan: list[str], outcome: str | None) -> dict[str, Any]:
    return {
        "dataset_id": kept.dataset.id if kept.dataset else None,
        "version": kept.dataset.version if kept.dataset else None,
        "corrections": [_facts(one) for one in kept.corrections],
        "training": plan,
        "outcome": outcome,
    }


def _facts(one: Correction) -> dict[str, Any]:
    return {
        "number": one.number,
        "messages": one.messages,
        "tools": one.tools,
        "answer": one.answer.in_words(),
        "reasoning": one.answer.reasoning,
        "model_said": one.said,
        "run": one.run,
        "checkpoint": one.checkpoint,
        "corrected_in": one.place,
        "row": one.row,
    }
