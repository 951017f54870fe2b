"""What a correction of an answer in the table needs: all the model was asked with, and its answer.

Nothing is corrected here.
"""

import json
import re
from typing import Any

from trainer_backend.evaluation.results import Asked, Evaluation
from trainer_backend.models.loaded.answer_parts import tool_names

_CALL = re.compile(r"^([\w.\-]+)\((\{.*\})\)$")


def correction_of(evaluation: Evaluation, one: Asked) -> dict[str, Any]:
    """The tuned model's answer to a row as the event `correct` carries it.

    The row is named only if it is one of the run's own data, where its pictures are looked up.
    """
    text, calls = parted(one.tuned, tool_names(one.tools))
    return {
        "run": evaluation.run,
        "evaluation": evaluation.id,
        "messages": one.messages or [{"role": "user", "content": one.prompt}],
        "tools": one.tools,
        "answer": text,
        "calls": calls,
        "reasoning": str(one.marks.get("tuned", {}).get("reasoning") or ""),
        "checkpoint": evaluation.checkpoint,
        "place": "evaluation",
        **({"row": one.row} if evaluation.held_out and one.messages else {}),
    }


def parted(text: str, names: list[str]) -> tuple[str, list[dict[str, Any]]]:
    """The text of an answer and the calls that follow it, a line each; only of known tools."""
    lines = text.split("\n")
    calls: list[dict[str, Any]] = []
    while lines and (call := _call(lines[-1], names)):
        calls.insert(0, call)
        lines.pop()
    return "\n".join(lines), calls


def _call(line: str, names: list[str]) -> dict[str, Any] | None:
    found = _CALL.match(line)
    if not found or found[1] not in names:
        return None
    try:
        return {"name": found[1], "arguments": json.loads(found[2])}
    except (ValueError, RecursionError):
        return None
