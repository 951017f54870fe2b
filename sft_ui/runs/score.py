"""The score of a run in a table: its main measure where it was evaluated, else its eval loss."""

from dataclasses import dataclass

from trainer_backend.comparison.words import measure_name, short_score
from trainer_backend.evaluation.results import best_head
from trainer_backend.evaluation.shown import value_in_words
from trainer_backend.runs import Run

VERDICT_MARKS = {"better": "▲", "worse": "▼", "no clear difference": "≈"}


@dataclass(frozen=True)
class Score:
    """What the table shows; `order` sorts the best first when descending.

    `mark` is the verdict as a sign, `said` the whole result in words.
    """

    text: str = "–"
    mark: str = ""
    verdict: str = ""
    said: str = "Not evaluated yet"
    order: tuple[int, float] = (0, 0.0)


def score_of(run: Run) -> Score:
    """The score of a run; reads small files only, and again only what has changed."""
    head = best_head(run)
    if head is not None and head.main in head.metrics:
        metric = head.metrics[head.main]
        better = metric.tuned if metric.better == "higher" else -metric.tuned
        base = value_in_words(head.main, metric.base)
        said = f"{measure_name(head.main)}, base model {base}. {head.sentence}"
        shown = short_score(head.main, metric.tuned)
        mark = VERDICT_MARKS.get(head.verdict, "")
        return Score(shown, mark, head.verdict, said, (2 + (metric.better == "higher"), better))
    return _without(run)


def _without(run: Run) -> Score:
    """The score of a run without an evaluation: the check of an earlier version, or its loss."""
    state = run.state()
    answers, loss = state.get("answers"), state.get("eval_loss")
    if isinstance(answers, dict) and isinstance(answers.get("tuned"), int | float):
        share, rows = float(answers["tuned"]), answers.get("rows")
        said = f"Right answers on {rows} held-out rows, counted by an earlier version"
        return Score(short_score("exact_match", share), "", "", said, (3, share))
    if isinstance(loss, int | float):
        said = "Eval loss: this run was not evaluated"
        return Score(f"eval loss {loss:.4g}", "", "", said, (1, -float(loss)))
    return Score()
