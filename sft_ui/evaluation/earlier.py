"""The answer check of earlier versions as an evaluation, so that an old run shows what it has.

Such a run kept its score and its first answers in its state; nothing is measured anew.
"""

from collections.abc import Mapping
from math import nan
from typing import Any

from trainer_backend.evaluation.results import Asked, Evaluation, Metric
from trainer_backend.runs import Run

EARLIER = "answers"  # the id of such an evaluation
NOTE = (
    "Checked by an earlier version: only exact matches were counted, without an interval. Evaluate "
    "the run again for the other measures."
)


def answers_of(run: Run) -> Evaluation | None:
    """The answer check of a run; None if it has none."""
    state = run.state()
    answers = state.get("answers")
    if not isinstance(answers, dict) or not answers.get("rows"):
        return None
    rows, examples = int(answers["rows"]), list(answers.get("examples") or ())
    base, tuned = float(answers["base"]), float(answers["tuned"])
    kept = f"Of the {rows} rows the first {len(examples)} are kept."
    return Evaluation(
        run.id,
        int(state.get("result_step") or state.get("step") or 0),
        rows,
        {"exact_match": Metric(base, tuned, "higher", (nan, nan), rows)},
        verdict="",
        main="exact_match",
        sentence=f"Right answers on held-out rows: base model {_share(base, rows)}, tuned model "
        f"{_share(tuned, rows)}.",
        notes=[NOTE, *([kept] if len(examples) < rows else [])],
        examples=[_asked(at, one) for at, one in enumerate(examples)],
        dataset=str(run.spec()["dataset"]["name"]),
        created_at=float(state.get("ended_at") or run.spec()["created_at"]),
        id=EARLIER,
    )


def _share(part: float, rows: int) -> str:
    return f"{round(part * rows)} of {rows}"


def _asked(at: int, one: Mapping[str, Any]) -> Asked:
    prompt, expected, base, tuned = (
        str(one.get(name) or "") for name in ("prompt", "expected", "base", "tuned")
    )
    given = {"base": base, "tuned": tuned}
    right = {
        side: bool(one.get(f"{side}_right", text.strip() == expected.strip()))
        for side, text in given.items()
    }
    marks: dict[str, dict[str, Any]] = {
        side: {"reasoning": one[f"{side}_reasoning"]}
        for side in ("expected", *given)
        if one.get(f"{side}_reasoning")
    }
    if one.get("images"):
        marks["prompt"] = {"images": one["images"]}
    scores = {"exact_match": {side: float(is_right) for side, is_right in right.items()}}
    return Asked(at + 1, prompt, expected, base, tuned, scores, marks=marks)
