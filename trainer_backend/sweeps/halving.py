"""Successive halving: which runs of a sweep are clearly behind and are stopped early.

Jamieson & Talwalkar 2016 (arXiv 1502.07943), in the form for runs that do not train at the same
time (Li et al. 2018, arXiv 1810.05934). It only says which runs; the scheduler stops them.
"""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer_backend.home import read_json, write_json
from trainer_backend.runs import ACTIVE, OVER, Run, amend
from trainer_backend.runs.files import BEHIND
from trainer_backend.sweeps.sweep import Sweep, list_sweeps

RUNGS = (1 / 4, 1 / 2)  # shares of a run's steps at which it is compared
MARGIN = 0.01  # a loss that is higher by less than this share is not clearly behind
EVERY_S = 5.0

Curve = list[tuple[float, float]]  # (share of the run's steps, evaluation loss)


@dataclass
class HalvingWatch:
    """Looks after the sweeps of a home. `looked` remembers the last evaluation seen of each run,
    so that curves are read only after a new one."""

    home: Path
    looked: dict[str, float] = field(default_factory=dict)
    next_look: float = float("-inf")

    def look(self) -> list[Run]:
        """The active runs to stop now; the reason is kept with each.

        Looks at most every five seconds. Tells a run that has ended since why it was stopped.
        """
        if not (self.home / "sweeps").is_dir() or time.monotonic() < self.next_look:
            return []
        self.next_look = time.monotonic() + EVERY_S
        halved = [sweep for sweep in list_sweeps(self.home) if sweep.halving]
        return [
            run
            for sweep in halved
            for run in sweep.runs_here(self.home)
            if self._is_behind(sweep, run)
        ]

    def _is_behind(self, sweep: Sweep, run: Run) -> bool:
        state = run.state()
        if (run.dir / BEHIND).exists():  # once is enough: it may have been resumed
            _tell(run, state)
            return False
        loss = state.get("eval_loss")
        if state["state"] not in ACTIVE or loss is None or self.looked.get(run.id) == loss:
            return False
        self.looked[run.id] = loss
        others = [one for one in sweep.runs_here(self.home) if one.id != run.id]
        why = why_behind(curve_of(run), [curve_of(one) for one in others], sweep.name)
        if why:
            write_json(run.dir / BEHIND, {"why": why, "sweep": sweep.id, "t": time.time()})
        return bool(why)


def curve_of(run: Run) -> Curve:
    """The evaluations of a run so far, in order."""
    total = run.state().get("total_steps") or 0
    rows = [row for row in run.metrics() if row["type"] == "eval"] if total else []
    losses = [(row["step"] / total, row.get("eval_loss")) for row in rows]
    return [(share, loss) for share, loss in losses if isinstance(loss, int | float)]


def why_behind(own: Curve, others: list[Curve], sweep: str) -> str:
    """Why a run is to be stopped, in a sentence; "" if it goes on.

    At the last rung it has passed, its best evaluation loss up to there is compared with that of
    the other runs that have come as far. The better half of them all goes on, and whoever is
    within one per cent of it; without another run nothing is said.
    """
    passed = [rung for rung in RUNGS if own and own[-1][0] >= rung]
    if not passed:
        return ""
    at = next(share for share, _ in own if share >= passed[-1])
    mine = _best(own, at)
    rivals = [_best(curve, at) for curve in others if curve and curve[-1][0] >= at]
    ranked = sorted([mine, *rivals])
    limit = ranked[math.ceil(len(ranked) / 2) - 1]
    if not rivals or mine <= limit * (1 + MARGIN):
        return ""
    half = "the better run" if len(ranked) == 2 else f"the better half of {len(ranked)} runs"
    return (
        f"Stopped early by the sweep “{sweep}”: after {at:.0%} of its steps its evaluation loss "
        f"was {mine:.3g}, and {half} had {limit:.3g} or less. Resume it to train it to the end."
    )


def _best(curve: Curve, until: float) -> float:
    return min(loss for share, loss in curve if share <= until + 1e-9)


def _tell(run: Run, state: dict[str, Any]) -> None:
    """Put the reason among the warnings of a run once it has ended; the worker wrote its state."""
    noted: Any = read_json(run.dir / BEHIND, {})
    why, warnings = str(noted.get("why", "")), state.get("warnings") or []
    if state["state"] in OVER and state["state"] != "finished" and why not in warnings:
        if not run.is_alive():
            amend(run.dir, warnings=[*warnings, why])
