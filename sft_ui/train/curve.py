"""The points of a run's curves, kept small: a run of a hundred thousand steps takes 5 MB.

Where they come from is run_feed.py; how they are drawn is in static/live_chart.js.
"""

from array import array
from bisect import bisect_right
from math import isnan, nan

CURVES = ("loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_gb")
WIDTH = len(CURVES)


class Curve:
    """Points in the order of their steps: training points of CURVES, and evaluations."""

    def __init__(self):
        self._steps, self._values = array("q"), array("d")
        self._is_eval = bytearray()

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, event: dict) -> None:
        """Add a “metrics” or an “eval” event."""
        evaluated = event["type"] == "eval"
        names = ("eval_loss",) if evaluated else CURVES
        values = [_number(event.get(name)) for name in names]
        self._steps.append(event["step"])
        self._values.extend(values + [nan] * (WIDTH - len(values)))
        self._is_eval.append(evaluated)

    def rewind(self, step: int) -> None:
        """Forget what comes after a step: it is done again."""
        kept = bisect_right(self._steps, step)
        del self._steps[kept:], self._values[kept * WIDTH :], self._is_eval[kept:]

    def points(self, start: int, limit: int) -> list[list]:
        """[step, *values] of the points from `start` on, at most about `limit` of them."""
        return [self._point(at) for at in self._thinned(start, limit)]

    def _point(self, at: int) -> list:
        end = at * WIDTH + (1 if self._is_eval[at] else WIDTH)
        return [self._steps[at], *(_short(value) for value in self._values[at * WIDTH : end])]

    def _thinned(self, start: int, limit: int) -> list[int]:
        every = range(start, len(self))
        if len(every) <= limit:
            return list(every)
        evals = [at for at in every if self._is_eval[at]]
        train = [at for at in every if not self._is_eval[at]]
        for_evals = min(len(evals), limit // 4)
        return sorted(self._extremes(evals, for_evals) + self._extremes(train, limit - for_evals))

    def _extremes(self, places: list[int], limit: int) -> list[int]:
        """First, last, and the lowest and highest value of each of limit / 2 equal parts."""
        if len(places) <= limit:
            return places
        kept = {places[0], places[-1]}
        parts = limit // 2 - 1
        for part in range(parts):
            bucket = places[len(places) * part // parts : len(places) * (part + 1) // parts]
            known = [at for at in bucket if not isnan(self._values[at * WIDTH])]
            if known:
                kept.add(min(known, key=lambda at: self._values[at * WIDTH]))
                kept.add(max(known, key=lambda at: self._values[at * WIDTH]))
        return list(kept)


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else nan


def _short(value: float) -> float | None:
    """A number with six digits, which is more than a screen can show; None where there is none."""
    return None if isnan(value) else float(f"{value:.6g}")
