"""Lengths of a dataset's examples in tokens of one model, and what cutting them at a limit does.

Only arrays that were counted once: any limit is answered at once and without a tokenizer.
Counting is token_lengths.py.
"""

import json
import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from trainer_backend.data.checks import Kind, problem_of
from trainer_backend.errors import Problem, UserError
from trainer_backend.home import check_id

NOT_LEARNED = np.iinfo(np.int32).max  # `first` of an example that teaches nothing
OVER_LENGTH = Kind("over_length", "warning", "", "", ("drop",))
NO_ANSWER_LEFT = Kind("no_answer_left", "warning", "", "", ("drop",))
NOTHING_LEARNED = Kind(
    "nothing_learned",
    "warning",
    "Rows have no token to learn.",
    "Training leaves them out. Look at one in the token view.",
    ("drop",),
)
CONTROL_TOKENS = Kind(
    "model_tokens",
    "warning",
    "Texts spell control tokens of this model.",
    "The model reads them as the end of a message or a new speaker, not as text.",
    ("drop",),
)
TEMPLATE_ERROR = Kind("template_error", "warning", "", "", ("drop",))
SMALL_STEP = 64  # limits are advised in multiples of it
MAX_REASONS = 5


@dataclass(frozen=True)
class Cut:
    """What a limit on the length does. Tokens are those that are left after cutting."""

    max_length: int
    rows: int  # examples the template accepts
    cut: int  # of them: longer than the limit
    lost: int  # of them: none of the answer is left
    failed: int  # examples the template refuses
    tokens: int
    trained: int

    @property
    def context(self) -> int:
        """Tokens that are read and not learned."""
        return self.tokens - self.trained


@dataclass(frozen=True)
class LengthReport:
    """Arrays of one entry for each example, in order; a failed example has total 0.

    `total`: tokens before cutting; `first`, `end`: from the first learned token to after the last;
    `trained`: learned tokens between them. `failures`: (row, reason) of refused examples.
    `spelled`: rows whose text spells a control token of the model.
    """

    rows: np.ndarray  # int64: row numbers
    total: np.ndarray  # int32, like the next three
    first: np.ndarray
    end: np.ndarray
    trained: np.ndarray
    failures: list[tuple[int, str]] = field(default_factory=list)
    spelled: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    key: str = ""

    def at(self, max_length: int) -> Cut:
        """Rows cut and lost, and tokens left, with this limit (the beginning is kept)."""
        return Cut(
            max_length,
            rows=len(self.rows) - len(self.failures),
            cut=int((self.total > max_length).sum()),
            lost=int(self._lost(max_length).sum()),
            failed=len(self.failures),
            tokens=int(np.minimum(self.total, max_length).sum(dtype=np.int64)),
            trained=self._trained(max_length),
        )

    def _lost(self, max_length: int) -> np.ndarray:
        return (self.first >= max_length) & (self.trained > 0)

    def _trained(self, max_length: int) -> int:
        """Learned tokens below the limit; between several answers they are taken as spread evenly.

        With one answer, or none cut inside a conversation, this is exact.
        """
        cut = self.end > max_length
        kept = int(self.trained[~cut].sum(dtype=np.int64))
        span = (self.end - self.first)[cut].astype(np.float64)
        left = np.maximum(max_length - self.first[cut].astype(np.int64), 0)
        shares = np.divide(left, span, out=np.zeros_like(span), where=span > 0)
        return kept + int(np.round(self.trained[cut] * shares).sum())

    def histogram(self, bins: int = 50) -> tuple[np.ndarray, np.ndarray]:
        """(counts, edges) of the total lengths; edges are whole tokens, `bins` at most."""
        longest = int(self.total.max()) if len(self.total) else 0
        step = max(1, -(-(longest + 1) // bins))
        edges = np.arange(0, longest + step + 1, step)
        return np.histogram(self.total[self.total > 0], edges)[0], edges

    def shortest_limit(self, share: float = 1.0) -> int:
        """The smallest multiple of 64 at which this share of the rows is not cut."""
        lengths = self.total[self.total > 0]
        if not len(lengths):
            return SMALL_STEP
        wanted = int(np.percentile(lengths, 100 * share, method="higher"))
        return -(-wanted // SMALL_STEP) * SMALL_STEP

    def problems(self, max_length: int, name: str) -> list[tuple[Problem, np.ndarray]]:
        """What this limit and this template do to the rows: each problem with all its rows."""
        found = []
        over, lost = self.total > max_length, self._lost(max_length)
        if over.any():
            what = f"Rows are longer than {max_length:,} tokens and will be cut."
            found.append(self._as_kind(OVER_LENGTH, what, self._over_advice(max_length), over))
        if lost.any():
            what = f"Rows lose their whole answer when they are cut at {max_length:,} tokens."
            needed = int(self.first[lost].max()) + 1
            fix = f"Their answers begin at up to token {needed:,}. Training leaves such rows out."
            found.append(self._as_kind(NO_ANSWER_LEFT, what, fix, lost))
        found.append((NOTHING_LEARNED, self.rows[(self.total > 0) & (self.trained == 0)]))
        found.append((CONTROL_TOKENS, self.spelled))
        found += self._refused()
        return [problem_of(kind, rows, name, len(self.rows)) for kind, rows in found if len(rows)]

    def _as_kind(self, kind: Kind, what: str, fix: str, which: np.ndarray):
        return Kind(kind.code, kind.severity, what, fix, kind.switches), self.rows[which]

    def _over_advice(self, max_length: int) -> str:
        everything, most = self.shortest_limit(), self.shortest_limit(0.99)
        said = f"The longest has {int(self.total.max()):,} tokens; none is cut at {everything:,}"
        if max_length < most < everything:
            said += f", and at {most:,} only 1 in 100"
        return f"{said}. A higher limit takes more memory."

    def _refused(self) -> list[tuple[Kind, np.ndarray]]:
        """The refused rows by reason, the most frequent reasons one by one."""
        reasons = Counter(reason for _, reason in self.failures).most_common()
        named = {reason for reason, _ in reasons[:MAX_REASONS]}
        found = []
        for reason in [*named, ""]:
            rows = [row for row, why in self.failures if (why if why in named else "") == reason]
            what = "The chat template refuses this conversation."
            fix = f"{reason or 'There are several reasons.'} Correct the rows or leave them out."
            kind = Kind(TEMPLATE_ERROR.code, TEMPLATE_ERROR.severity, what, fix, ("drop",))
            found.append((kind, np.array(rows, np.int64)))
        return found

    def save(self, folder: Path) -> None:
        """Write the report into a dataset's folder, all of it or nothing."""
        arrays = {
            name: getattr(self, name) for name in ("rows", "total", "first", "end", "trained")
        }
        said = np.frombuffer(json.dumps(self.failures).encode(), np.uint8)
        handle, part = tempfile.mkstemp(prefix=".part-", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, failures=said, **arrays)
            os.replace(part, _path(folder, self.key))
        finally:
            Path(part).unlink(missing_ok=True)


def _path(folder: Path, key: str) -> Path:
    return folder / f"tokens-{key}.npz"


@lru_cache(maxsize=8)
def _read(path: Path) -> LengthReport:
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    failures = [tuple(pair) for pair in json.loads(arrays.pop("failures").tobytes())]
    return LengthReport(**arrays, failures=failures, key=path.stem.removeprefix("tokens-"))


def stored_report(folder: Path, key: str) -> LengthReport | None:
    """The report in a dataset's folder that was counted under this key; None if there is none."""
    path = _path(folder, check_id(key, "token count"))
    return _read(path) if path.is_file() else None


def read_report(folder: Path, key: str) -> LengthReport:
    """The same, for a key that counting gave. Raises UserError if it is gone."""
    report = stored_report(folder, key)
    if report is None:
        raise UserError("The tokens are not counted yet.", f"count {key}", "Count them again.")
    return report
