"""Token lengths of datasets for the page: one count shared by all viewers, then its report.

The model process counts; this turns the counts into what the chart draws.
"""

import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sft_ui.context import Studio
from trainer_backend.data.checks import CHOICE_WORDS
from trainer_backend.data.store import LengthReport, open_dataset, read_report
from trainer_backend.data.store.length_report import DECIDING
from trainer_backend.errors import Problem, UserError

MAX_KEPT = 12
MARKS = (512, 1024, 2048)
MAX_STEPS = 1_500  # lengths sent to the page
NUM_BARS = 56
SECONDS_AN_ERROR_HOLDS = 10  # after which the next poll counts again


@dataclass
class Count:
    """One count, running or finished; `done` and `total` are rows."""

    done: int = 0
    total: int = 0
    lengths: LengthReport | None = None
    error: UserError | None = None
    failed_at: float = 0.0


def asked(dataset_id: str, values: Mapping[str, Any], steps: int = 0) -> str:
    """The value of the chart: JSON with a key that changes when rows must be counted again."""
    fields = {name: values.get(name) for name in DECIDING}
    key = hashlib.sha256(json.dumps([dataset_id, fields]).encode()).hexdigest()[:16]
    limit = values.get("max_length")
    wanted = {"dataset": dataset_id, "key": key, "max_length": limit, "steps": steps}
    wanted["truncation_mode"] = values.get("truncation_mode")
    decided = values.get("lost_content") or "ask"
    return json.dumps({**wanted, "decided": decided, "fields": fields})


class LengthFeed:
    """Counts by dataset and settings; the last MAX_KEPT are kept."""

    def __init__(self, studio: Studio):
        self._studio = studio
        self._counts: OrderedDict[str, Count] = OrderedDict()
        self._lock = threading.Lock()

    def watch(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a poll with `asked`: {"state": "none" | "counting" | "done" | "error", …}."""
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
        decided = str(wanted.get("decided") or "ask")
        lengths = count.lengths.kept(str(wanted.get("truncation_mode")))
        shown = report(lengths, limit, wanted.get("steps") or 0, decided)
        return {"state": "done", **about, **shown}

    def known(self, dataset_id: str, values: Mapping[str, Any]) -> LengthReport | None:
        """The lengths, if they have been counted with these settings."""
        fields = {name: values.get(name) for name in DECIDING}
        count = self._counts.get(json.dumps([dataset_id, fields]))
        lengths = count.lengths if count else None
        return lengths and lengths.kept(str(values.get("truncation_mode")))

    def waits(self, dataset_id: str, values: Mapping[str, Any]) -> bool:
        """Whether the lengths with these settings are not known yet but may be."""
        fields = {name: values.get(name) for name in DECIDING}
        count = self._counts.get(json.dumps([dataset_id, fields]))
        return count is None or (count.lengths is None and count.error is None)

    def _count_for(self, dataset_id: str, fields: dict[str, Any]) -> Count:
        key = json.dumps([dataset_id, fields])
        with self._lock:
            known = self._counts.get(key)
            if known is not None and not (known.error and is_over(known.failed_at)):
                self._counts.move_to_end(key)
                return known
            count = self._counts[key] = Count()
            while len(self._counts) > MAX_KEPT:
                self._counts.popitem(last=False)
        threading.Thread(target=self._run, args=(count, dataset_id, fields), daemon=True).start()
        return count

    def _run(self, count: Count, dataset_id: str, fields: dict[str, Any]) -> None:
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


def report(
    lengths: LengthReport, limit: int, steps: int, lost_content: str = "ask"
) -> dict[str, Any]:
    """What the chart draws: histogram, rows above each length, totals and findings at `limit`.

    `steps` are the optimizer steps of the run, `lost_content` what its recipe says.
    """
    problems = lengths.problems(limit, "tokens", lost_content)
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
        "problems": [found(problem) for problem, _ in problems],
        "count": lengths.name,
        "limit": limit,
    }


def found(problem: Problem) -> dict[str, Any]:
    """A finding about lengths as the chart lists it."""
    facts = {name: getattr(problem, name) for name in ("code", "severity", "what", "fix", "count")}
    pairs = [pair for one in problem.choices for pair in one.items()]
    choices = [{"words": CHOICE_WORDS[pair], "change": dict([pair])} for pair in pairs]
    return {**facts, "can_drop": "drop" in problem.switches, "choices": choices}


def steps_above(values: np.ndarray) -> list[list[int]]:
    """Ascending [value, number of larger values]; thinned to about MAX_STEPS, exact at MARKS."""
    found, counts = np.unique(values, return_counts=True)
    larger = len(values) - np.cumsum(counts)
    if len(found) > MAX_STEPS:
        kept = np.unique(np.linspace(0, len(found) - 1, MAX_STEPS).astype(int))
        marks = [limit + less for limit in MARKS for less in (0, -1)]
        exact = np.searchsorted(found, marks, side="right") - 1
        kept = np.union1d(kept, exact[exact >= 0])
        found, larger = found[kept], larger[kept]
    return np.stack([found, larger], axis=1).tolist()


def bars(total: np.ndarray) -> dict[str, Any]:
    """Histogram {"edges", "counts", "log"}: linear bins, or logarithmic for a long tail."""
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
