"""How the runs of a sweep did, and which is the best."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer_backend.evaluation.measures import MEASURE_LABELS
from trainer_backend.evaluation.results import Evaluation, best_head
from trainer_backend.home import read_json
from trainer_backend.runs import OVER, Run
from trainer_backend.runs.files import BEHIND
from trainer_backend.sweeps.sweep import Sweep, list_sweeps
from trainer_backend.sweeps.tries import not_comparable

EVAL_LOSS = "eval_loss"


@dataclass(frozen=True)
class Outcome:
    """One run of a sweep. `score` is its value by the standing's measure, None without one;
    `why` says why it was stopped early, if it was."""

    id: str
    name: str
    values: dict[str, Any]
    state: str
    eval_loss: float | None
    score: float | None
    why: str


@dataclass(frozen=True)
class Standing:
    """The runs of a sweep in its order. `best` is the id of the best finished run by `by`, the
    name of a measure or “eval_loss”; None while none can be told. `open` counts runs to come."""

    sweep: Sweep
    outcomes: list[Outcome]
    best: str | None
    by: str
    open: int

    def sentence(self) -> str:
        """What is known so far, in words."""
        if self.best is None:
            waits = f"{self.open} runs are not over" if self.open > 1 else "1 run is not over"
            return f"No best run yet: {waits}." if self.open else "No run can be called the best."
        found = next(one for one in self.outcomes if one.id == self.best)
        measure = MEASURE_LABELS.get(self.by, "evaluation loss")
        so_far = f" so far ({self.open} to come)" if self.open else ""
        return f"Best{so_far} by {measure}: {found.name}, {found.score:.3g}."

    def to_dict(self) -> dict[str, Any]:
        """The sweep as JSON, its runs with what they achieved."""
        runs = [
            {
                "id": one.id,
                "name": one.name,
                "values": one.values,
                "state": one.state,
                "eval_loss": one.eval_loss,
                "score": one.score,
                "best": one.id == self.best,
                "stopped_because": one.why or None,
            }
            for one in self.outcomes
        ]
        return {**self.sweep.to_dict(), "runs": runs, "best": self.best, "by": self.by}


def best_of(home: Path, sweep: Sweep) -> str | None:
    """The id of the best finished run of a sweep, or None while none can be told."""
    return standing(home, sweep).best


def best_runs(home: Path) -> set[str]:
    """The ids of the best runs of all sweeps, for a list of runs to mark."""
    found = (best_of(home, sweep) for sweep in list_sweeps(home))
    return {run_id for run_id in found if run_id}


def standing(home: Path, sweep: Sweep) -> Standing:
    """How the runs of a sweep did so far.

    The best is by the main measure of the runs' evaluations, if every finished run has one and it
    is the same, else by the evaluation loss, if the losses compare. Of equal scores the lower
    evaluation loss wins, then the earlier run. A run that was stopped is never the best.
    """
    runs = sweep.runs_here(home)
    finished = [run for run in runs if run.state()["state"] == "finished"]
    known = {run.id: found for run in finished if (found := best_head(run))}
    by = _measure(finished, known)
    losses = {run.id: run.state().get(EVAL_LOSS) for run in runs}
    if by == EVAL_LOSS:
        scores = {} if not_comparable(list(sweep.tries)) else losses
        sign = 1
    else:
        scores = {run_id: one.metrics[by].tuned for run_id, one in known.items()}
        sign = 1 if next(iter(known.values())).metrics[by].better == "lower" else -1
    ranked = sorted(
        (sign * score, _or_last(losses[run.id]), at, run.id)
        for at, run in enumerate(finished)
        if (score := scores.get(run.id)) is not None
    )
    planned = {one.id: one.values for one in sweep.runs}
    outcomes = [_outcome(run, planned[run.id], scores.get(run.id)) for run in runs]
    waiting = sum(run.state()["state"] not in OVER for run in runs)
    return Standing(sweep, outcomes, ranked[0][-1] if ranked else None, by, waiting)


def _measure(finished: list[Run], known: dict[str, Evaluation]) -> str:
    mains = {one.main for one in known.values()}
    if len(known) < len(finished) or len(mains) != 1:
        return EVAL_LOSS
    main = mains.pop()
    return main if all(main in one.metrics for one in known.values()) else EVAL_LOSS


def _or_last(loss: float | None) -> float:
    return float("inf") if loss is None else loss


def _outcome(run: Run, values: dict[str, Any], score: float | None) -> Outcome:
    state = run.state()
    behind: Any = read_json(run.dir / BEHIND, {})
    return Outcome(
        run.id,
        run.name(),
        values,
        state["state"],
        state.get(EVAL_LOSS),
        score,
        str(behind.get("why", "")),
    )
