"""Token lengths of datasets on their way to the page: one count for all who watch, then its report.

Counting is done in the model process (trainer_backend/tokens/counts.py); drawing in static/.
"""

import hashlib
import json
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from sft_ui.context import Studio
from trainer_backend.data.store import LengthReport, open_dataset, read_report
from trainer_backend.errors import Problem, UserError

MAX_KEPT = 12
MARKS = (512, 1024, 2048)
MAX_STEPS = 1_500  # lengths sent to the page
NUM_BARS = 56
SECONDS_AN_ERROR_HOLDS = 10  # then counting is tried again for whoever asks
# What token lengths depend on, besides the rows.
DECIDING = ("base_model", "system_prompt", "assistant_only_loss")


@dataclass
class Count:
    """One count that goes on or is over."""

    done: int = 0
    total: int = 0
    lengths: LengthReport | None = None
    error: UserError | None = None
    failed_at: float = 0.0


def asked(dataset_id: str, values: dict, steps: int = 0) -> str:
    """What the chart asks for, as its value: JSON with a key that names what was counted."""
    fields = {name: values.get(name) for name in DECIDING}
    key = hashlib.sha256(json.dumps([dataset_id, fields]).encode()).hexdigest()[:16]
    limit = values.get("max_length")
    wanted = {"dataset": dataset_id, "key": key, "max_length": limit, "steps": steps}
    return json.dumps({**wanted, "fields": fields})


class LengthFeed:
    """Counts by what they depend on; the newest are kept."""

    def __init__(self, studio: Studio):
        self._studio = studio
        self._counts: OrderedDict[str, Count] = OrderedDict()
        self._lock = threading.Lock()

    def watch(self, wanted: dict) -> dict:
        """{"state": "none" | "counting" | "done" | "error", …} for what the chart asks."""
        dataset_id, fields = wanted.get("dataset"), wanted.get("fields")
        if not isinstance(dataset_id, str) or not isinstance(fields, dict):
            return {"state": "none"}
        fields = {name: fields.get(name) for name in DECIDING}
        count = self._count_for(dataset_id, fields)
        model = str(fields["base_model"] or "").rstrip("/").rpartition("/")[2]
        about = {"model": f"in tokens of {model}"}
        if count.error:
            return {"state": "error", "error": count.error.to_dict(), **about}
        if count.lengths is None:
            return {"state": "counting", "done": count.done, "total": count.total, **about}
        limit = wanted.get("max_length")
        limit = limit if isinstance(limit, int) and limit > 0 else MARKS[-1]
        return {"state": "done", **about, **report(count.lengths, limit, wanted.get("steps") or 0)}

    def known(self, dataset_id: str, values: dict) -> LengthReport | None:
        """The lengths, if they were counted already with these settings."""
        fields = {name: values.get(name) for name in DECIDING}
        count = self._counts.get(json.dumps([dataset_id, fields]))
        return count.lengths if count else None

    def _count_for(self, dataset_id: str, fields: dict) -> Count:
        key = json.dumps([dataset_id, fields])
        with self._lock:
            known = self._counts.get(key)
            old = known is not None and known.error is not None
            if known is not None and not (old and is_over(known.failed_at)):
                self._counts.move_to_end(key)
                return known
            count = self._counts[key] = Count()
            while len(self._counts) > MAX_KEPT:
                self._counts.popitem(last=False)
        threading.Thread(target=self._run, args=(count, dataset_id, fields), daemon=True).start()
        return count

    def _run(self, count: Count, dataset_id: str, fields: dict) -> None:
        try:
            dataset, key = open_dataset(self._studio.home, dataset_id), ""
            for part in self._studio.model_process.token_lengths(dataset_id, fields):
                count.done, count.total = part["done"], part["total"]
                key = part.get("key") or key
            count.lengths = read_report(dataset.dir, key)
        except UserError as error:
            count.failed_at, count.error = time.monotonic(), error


def is_over(failed_at: float) -> bool:
    """Whether an error is old enough to try again."""
    return time.monotonic() - failed_at > SECONDS_AN_ERROR_HOLDS


def report(lengths: LengthReport, limit: int, steps: int) -> dict:
    """What the chart draws and works out limits with: bars, and rows above each length."""
    total, here = lengths.total[lengths.total > 0], lengths.at(limit)
    return {
        "rows": len(total),
        "longest": int(total.max(initial=0)),
        "bars": bars(total),
        "over": steps_above(total),
        "late": steps_above(lengths.first[lengths.trained > 0]),
        "taught": int((lengths.trained > 0).sum()),
        "marks": list(MARKS),
        "totals": {"trained": here.trained, "context": here.context, "steps": steps},
        "problems": [found(problem) for problem, _ in lengths.problems(limit, "tokens")],
        "count": lengths.key,
        "limit": limit,
    }


def found(problem: Problem) -> dict:
    """A finding about lengths as the chart's card lists it."""
    said = {"code": problem.code, "what": problem.what, "fix": problem.fix, "count": problem.count}
    return {**said, "can_drop": "drop" in problem.switches}


def steps_above(values: np.ndarray) -> list[list[int]]:
    """Ascending [value, how many are larger]; exact at every value unless there are too many."""
    found, counts = np.unique(values, return_counts=True)
    larger = len(values) - np.cumsum(counts)
    if len(found) > MAX_STEPS:
        kept = np.unique(np.linspace(0, len(found) - 1, MAX_STEPS).astype(int))
        marks = [limit + less for limit in MARKS for less in (0, -1)]
        exact = np.searchsorted(found, marks, side="right") - 1
        kept = np.union1d(kept, exact[exact >= 0])
        found, larger = found[kept], larger[kept]
    return np.stack([found, larger], axis=1).tolist()


def bars(total: np.ndarray) -> dict:
    """Edges and counts of the histogram: even steps, or doubling ones where lengths spread far."""
    low, high = (int(total.min()), int(total.max())) if len(total) else (0, 0)
    middle = float(np.median(total)) if len(total) else 0.0
    spread = high > 8 * max(1.0, middle) and high > 256
    if spread:
        edges = np.unique(np.geomspace(max(1, low), high + 1, NUM_BARS + 1).round().astype(int))
    else:
        start = 0 if low < high / 2 else low
        width = max(1, -(-(high + 1 - start) // NUM_BARS))
        edges = np.arange(start, high + 1 + width, width)
    counts, _ = np.histogram(total, edges)
    return {"edges": edges.tolist(), "counts": counts.tolist(), "log": spread}
