"""Lengths of the examples in tokens of one model, and what a limit on the length does to them.

Works on stored counts, without a tokenizer: any limit is answered at once.
"""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from trainer_backend.data.checks import (
    Kind,
    Positions,
    content_findings,
    lost_kinds,
    problem_of,
    question,
)
from trainer_backend.data.store.pages import replace_file
from trainer_backend.errors import Problem, UserError
from trainer_backend.home import check_id
from trainer_backend.recipe import Recipe, label

NOT_LEARNED = np.iinfo(np.int32).max  # `first` of an example without tokens to learn
OVER_LENGTH = Kind("over_length", "warning", "", "", ("drop",))
NO_ANSWER_LEFT = Kind("no_answer_left", "warning", "", "", ("drop",))
NOTHING_LEARNED = Kind(
    "nothing_learned",
    "warning",
    "Rows have no tokens to learn.",
    "Training leaves them out. Open one in the token view to see why.",
    ("drop",),
)
TEMPLATE_ERROR = Kind(
    "template_error", "warning", "The chat template rejects these conversations.", "", ("drop",)
)
SEVERAL, OF_ROWS = "There are several reasons.", "Correct the rows or leave them out."
OF_TOKENIZER = "The tokenizer has no "  # begins reasons that are no fault of a row
NAME_END = f"Name it in “{label('eos_token')}”, or use another model."
LIMIT_STEP = 64  # advised limits are multiples of it
MAX_REASONS = 5
KEEPS_END = "-end"  # after the key, in the name of a report for rows whose end is kept
# The settings that token lengths depend on.
DECIDING = (
    *("base_model", "system_prompt", "assistant_only_loss"),
    *("chat_template", "thinking", "eos_token", "control_tokens", "last_turn_only"),
)


@dataclass(frozen=True)
class Cut:
    """What a limit on the length does; `tokens` and `trained` count what is left after cutting."""

    max_length: int
    rows: int  # examples that the chat template accepts
    cut: int  # of these: longer than the limit
    lost: int  # of these: nothing of the answer is left
    failed: int  # examples that the chat template rejects
    tokens: int
    trained: int

    @property
    def context(self) -> int:
        """Tokens that are read but not learned."""
        return self.tokens - self.trained


@dataclass(frozen=True)
class LengthReport:
    """Arrays with one entry for each example, in order; a rejected example has total 0.

    `total`: tokens before cutting; `first`, `end`: from the first learned token to after the last;
    `trained`: learned tokens between them. `failures`: (row, reason) of rejected examples.
    `content`: what the chat template made of each kind of content, as flags; `mended`: kinds that
    the training template writes and this one does not.
    """

    rows: np.ndarray  # int64: row numbers
    total: np.ndarray  # int32, like the next three
    first: np.ndarray
    end: np.ndarray
    trained: np.ndarray
    failures: list[tuple[int, str]] = field(default_factory=list)
    key: str = ""
    content: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    mended: tuple[str, ...] = ()
    positions: Positions | None = None  # of the model, where it limits the rows
    keeps_end: bool = False  # rows are cut at their start: `first` and `end` count from their end

    def kept(self, truncation_mode: str) -> "LengthReport":
        """The report for rows cut as a recipe's `truncation_mode` says.

        With “keep_end” a token at place i counts as total − i, so that it is learned below a limit
        as before: the first token that is kept predicts others, and is never predicted itself.
        """
        if truncation_mode != "keep_end" or self.keeps_end:
            return self
        taught = self.trained > 0
        first = np.where(taught, self.total - self.end + 1, self.first)
        end = np.where(taught, self.total - self.first + 1, self.end)
        return replace(self, first=first, end=end, keeps_end=True)

    @property
    def name(self) -> str:
        """What read_report() finds this report by: its key, and what is kept."""
        return self.key + (KEEPS_END if self.keeps_end else "")

    def question(self, where: str) -> UserError | None:
        """What to ask before training: kinds that the chat template omits in most of their rows.

        None if there is no such kind. `where` says where the rows are listed.
        """
        kinds = lost_kinds(self.content)
        if not kinds:
            return None
        return UserError(**question(self.content, kinds, self.mended, where))

    def at(self, max_length: int) -> Cut:
        """Rows cut and lost, and tokens left, at this limit."""
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
        """Learned tokens below the limit.

        Exact for one answer; with several, they are assumed to be spread evenly from first to end.
        """
        cut = self.end > max_length
        kept = int(self.trained[~cut].sum(dtype=np.int64))
        span = (self.end - self.first)[cut].astype(np.float64)
        left = np.maximum(max_length - self.first[cut].astype(np.int64), 0)
        fractions = np.divide(left, span, out=np.zeros_like(span), where=span > 0)
        return kept + int(np.round(self.trained[cut] * fractions).sum())

    def histogram(self, bins: int = 50) -> tuple[np.ndarray, np.ndarray]:
        """(counts, edges) of the total lengths, at most `bins` of them; edges are whole tokens."""
        longest = int(self.total.max()) if len(self.total) else 0
        step = max(1, -(-(longest + 1) // bins))
        edges = np.arange(0, longest + step + 1, step)
        return np.histogram(self.total[self.total > 0], edges)[0], edges

    def shortest_limit(self, fraction: float = 1.0) -> int:
        """The smallest multiple of 64 at which this fraction of the rows is not cut."""
        lengths = self.total[self.total > 0]
        if not len(lengths):
            return LIMIT_STEP
        wanted = int(np.percentile(lengths, 100 * fraction, method="higher"))
        return -(-wanted // LIMIT_STEP) * LIMIT_STEP

    def problems(
        self, max_length: int, name: str, lost_content: str = "ask"
    ) -> list[tuple[Problem, np.ndarray]]:
        """The problems at this limit and with this template, each with all its rows.

        `lost_content`, a recipe's setting, is what was decided about content that is lost.
        """
        found: list[tuple[Kind, np.ndarray]] = []
        over, lost = self.total > max_length, self._lost(max_length)
        if over.any():
            what = f"Rows are longer than {max_length:,} tokens and will be cut."
            kind = replace(OVER_LENGTH, what=what, fix=self._over_advice(max_length))
            found.append((kind, self.rows[over]))
        if lost.any():
            what = f"Rows lose their whole answer when they are cut at {max_length:,} tokens."
            kind = replace(NO_ANSWER_LEFT, what=what, fix=self._lost_advice(lost))
            found.append((kind, self.rows[lost]))
        if self.positions and max_length > self.positions.most:
            longer = self.rows[self.total > self.positions.most]
            found.append((self.positions.finding(), longer))
        found.append((NOTHING_LEARNED, self.rows[(self.total > 0) & (self.trained == 0)]))
        found += self._rejected()
        if self.content.any():
            about = content_findings(self.content, self.mended, lost_content)
            found += [(kind, self.rows[which]) for kind, which in about]
        return [problem_of(kind, rows, name, len(self.rows)) for kind, rows in found if len(rows)]

    def _lost_advice(self, lost: np.ndarray) -> str:
        needed = int(self.first[lost].max()) + 1
        if self.keeps_end:
            return f"Their answers end {needed:,} tokens before the end. Training leaves them out."
        return f"Their answers begin as late as token {needed:,}. Training leaves them out."

    def _over_advice(self, max_length: int) -> str:
        everything, most = self.shortest_limit(), self.shortest_limit(0.99)
        advice = f"The longest has {int(self.total.max()):,} tokens; none is cut at {everything:,}"
        if max_length < most < everything:
            advice += f", and at {most:,} only 1 in 100"
        return f"{advice}. A higher limit takes more memory."

    def _rejected(self) -> list[tuple[Kind, np.ndarray]]:
        """The rejected rows: one kind for each of the most frequent reasons, one for the rest."""
        reasons = Counter(reason for _, reason in self.failures).most_common()
        named = {reason for reason, _ in reasons[:MAX_REASONS]}
        found: list[tuple[Kind, np.ndarray]] = []
        for reason in [*named, ""]:
            rows = [row for row, why in self.failures if (why if why in named else "") == reason]
            ways = ("drop", "join") if "alternat" in reason else ("drop",)
            kind = replace(TEMPLATE_ERROR, fix=f"{reason or SEVERAL} {OF_ROWS}", switches=ways)
            if reason.startswith(OF_TOKENIZER):  # no row is at fault
                kind = replace(TEMPLATE_ERROR, fix=f"{reason} {NAME_END}", switches=())
            found.append((kind, np.array(rows, np.int64)))
        return found

    def save(self, folder: Path) -> None:
        """Write the report into a dataset's folder, atomically."""
        names = ("rows", "total", "first", "end", "trained", "content")
        arrays = {name: getattr(self, name) for name in names}
        facts: dict[str, Any] = {"failures": self.failures, "mended": self.mended}
        if self.positions:
            facts["positions"] = asdict(self.positions)
        for name, value in facts.items():
            arrays[name] = np.frombuffer(json.dumps(value).encode(), np.uint8)
        replace_file(_path(folder, self.key), lambda part: np.savez(part, **arrays))


def _path(folder: Path, key: str) -> Path:
    return folder / f"tokens-{key}.npz"


@lru_cache(maxsize=8)
def _read(path: Path) -> LengthReport:
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files if name != "spelled"}
    failures = [tuple(pair) for pair in json.loads(arrays.pop("failures").tobytes())]
    mended = tuple(json.loads(arrays.pop("mended").tobytes())) if "mended" in arrays else ()
    known = json.loads(arrays.pop("positions").tobytes()) if "positions" in arrays else None
    positions = Positions(**known) if known else None
    key = path.stem.removeprefix("tokens-")
    return LengthReport(**arrays, failures=failures, key=key, mended=mended, positions=positions)


def stored_report(folder: Path, key: str) -> LengthReport | None:
    """The report stored in a dataset's folder under this key; None if there is none."""
    path = _path(folder, check_id(key, "token count"))
    return _read(path) if path.is_file() else None


def read_report(folder: Path, key: str) -> LengthReport:
    """The report stored under this key or name. Raises UserError if there is none."""
    report = stored_report(folder, key.removesuffix(KEEPS_END))
    if report is None:
        what = "The token counts are missing."
        raise UserError(what, f"count {key}", "Count the tokens again.")
    return report.kept("keep_end") if key.endswith(KEEPS_END) else report


def remember_report(folder: Path, recipe: Recipe, report: LengthReport) -> None:
    """Note that this report was counted for a recipe, so that known_report() finds it."""
    noted = _note_of(folder, recipe)
    if not noted.is_file() or noted.read_text(encoding="utf-8") != report.key:
        replace_file(noted, lambda part: part.write_text(report.key, encoding="utf-8"))


def known_report(folder: Path, recipe: Recipe) -> LengthReport | None:
    """The report last counted for a recipe's model and template; None if there is none."""
    try:
        key = _note_of(folder, recipe).read_text(encoding="utf-8").strip()
        report = stored_report(folder, key)
    except (OSError, UserError):
        return None
    return report and report.kept(recipe.truncation_mode)


def newest_report(folder: Path) -> LengthReport | None:
    """The report stored last, of whatever model; None if there is none."""
    found = [(path.stat().st_mtime, path) for path in folder.glob("tokens-*.npz")]
    return _read(max(found)[1]) if found else None


def _note_of(folder: Path, recipe: Recipe) -> Path:
    asked = json.dumps([getattr(recipe, name) for name in DECIDING])
    return folder / f"counted-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.txt"
