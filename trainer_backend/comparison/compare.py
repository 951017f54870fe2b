"""Two to six runs beside each other: facts, scores, settings, curves, answers, what compares."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer_backend.comparison.answers import SharedRow, given_by, shared_rows
from trainer_backend.comparison.compared import Compared, chosen_runs, read_compared
from trainer_backend.comparison.curves import CURVES, Points, curves_of, thinned
from trainer_backend.comparison.differences import differences, settings_side_by_side
from trainer_backend.comparison.leads import Lead, leads
from trainer_backend.comparison.scores import Scores, compare_scores, metrics_of, with_heads
from trainer_backend.comparison.words import lead_words, notes_of

FACTS = ("step", "total_steps", "elapsed_seconds", "tokens_per_second", "memory_gb", "num_tokens")


@dataclass(frozen=True)
class Comparison:
    """The comparison of some runs, in the order in which they were named."""

    compared: list[Compared]
    settings: dict[str, list[Any]]
    curves: dict[str, dict[str, Points]]
    scores: Scores
    answers: list[SharedRow]
    leads: list[Lead]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON; curves have at most 1,000 points each."""
        return {
            "runs": [_facts(one) for one in self.compared],
            "differences": differences(self.settings),
            "curves": {
                run: {name: [list(point) for point in thinned(both[name])] for name in CURVES}
                for run, both in self.curves.items()
            },
            "settings": self.settings,
            "scores": asdict(self.scores),
            "answers": [row.to_dict() for row in self.answers],
            "findings": [lead_words(one, self.compared) for one in self.leads],
            "notes": self.notes,
        }


def compare_runs(home: Path, ids: Sequence[str]) -> Comparison:
    """Compare runs by their ids.

    Raises UserError for fewer than 2, more than 6, an unknown run, and one named twice.
    """
    runs = with_heads(read_compared(chosen_runs(home, ids)))
    given = [given_by(one) for one in runs]
    shared = shared_rows(runs, given)
    return Comparison(
        runs,
        settings_side_by_side(runs),
        {one.run.id: curves_of(one.run) for one in runs},
        compare_scores(runs, given, shared),
        shared,
        leads(runs, shared),
        notes_of(runs, given, len(shared)),
    )


def _facts(one: Compared) -> dict[str, Any]:
    head, notes = one.head, one.run.notes()
    return {
        "id": one.run.id,
        "name": one.run.name(),
        "label": one.label,
        "state": one.state["state"],
        "loss": one.state.get("loss"),
        "eval_loss": one.state.get("eval_loss"),
        "metrics": {name: metric["tuned"] for name, metric in metrics_of(one).items()},
        "base_model": one.settings["base_model"],
        "dataset": one.spec["dataset"]["name"],
        "verdict": head.verdict if head else None,
        "main": head.main if head else None,
        "rows": one.asked,
        "checkpoint": head.checkpoint if head else None,
        **{name: one.state.get(name) for name in FACTS},
        "notes": notes.text,
        "tags": list(notes.tags),
    }
