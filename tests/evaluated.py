"""A made-up evaluation, and an engine that gives it: for the tests of what shows evaluations."""

from trainer_backend.evaluation.results import Asked, Evaluation, Metric, keep

MEASURED = {
    "exact_match": Metric(0.125, 0.5, "higher", (0.25, 0.5), 8),
    "token_f1": Metric(0.25, 0.625, "higher", (-0.125, 0.5), 8),
    "loss": Metric(2.5, 3.25, "lower", (0.5, 1.0), 8),
}


def asked(row: int, base: float, tuned: float) -> Asked:
    scores = {"exact_match": {"base": base, "tuned": tuned}}
    return Asked(row, f"Say {row}", f"{row}!", "=no", f"{row}! or so", scores)


def evaluation(run, checkpoint: int = 4, **changes) -> Evaluation:
    facts = {
        "metrics": MEASURED,
        "verdict": "better",
        "main": "exact_match",
        "sentence": "Better: Exact match 12.5% → 50%.",
        "warnings": ["It learned its training rows by heart."],
        "examples": [asked(1, 0, 1), asked(2, 0, 0), asked(3, 1, 0), asked(4, 1, 1)],
        "dataset": "numbers",
    }
    return Evaluation(run.id, checkpoint, **{"rows": 8, **facts, **changes})


class FakeEngine:
    """Stands where the engine does: remembers how it was called, keeps what it gives."""

    def __init__(self):
        self.calls = []

    def evaluate_run(self, run, *, progress, **options):
        progress("Asking the tuned model", 3, 8, "answers")
        self.calls.append(options)
        found = evaluation(run, options["checkpoint"])
        keep(run, found)
        return found
