"""Counts what a dataset holds: messages, roles, turns, lengths in characters, languages.

Nothing is counted in tokens: no model is known here.
"""

from array import array
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainer_backend.data.checks.languages import LANGUAGES, UNKNOWN
from trainer_backend.home import read_json, write_json

STATISTICS = "statistics.json"
EDGES = (0, 1, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)


@dataclass(frozen=True)
class Lengths:
    """Lengths in characters; `counts` is a histogram whose bins begin at each of EDGES."""

    counts: list[int] = field(default_factory=lambda: [0] * len(EDGES))
    median: int = 0
    p95: int = 0
    longest: int = 0
    total: int = 0

    @classmethod
    def of(cls, values: np.ndarray) -> "Lengths":
        """The lengths in an integer array (n,)."""
        if not len(values):
            return cls()
        counts = np.bincount(np.searchsorted(EDGES, values, side="right") - 1, minlength=len(EDGES))
        median, p95 = np.percentile(values, (50, 95), method="lower")
        return cls(
            counts.tolist(),
            int(median),
            int(p95),
            int(values.max()),
            int(values.sum(dtype=np.int64)),
        )


@dataclass(frozen=True)
class Statistics:
    """Totals of a dataset. Languages are guesses; unclear texts are "unknown"."""

    rows: int = 0  # examples: the rows that train
    messages: int = 0
    roles: dict[str, int] = field(default_factory=dict)  # role -> messages
    turns: dict[str, int] = field(default_factory=dict)  # answers in a conversation -> rows
    prompt_languages: dict[str, int] = field(default_factory=dict)  # language -> rows
    answer_languages: dict[str, int] = field(default_factory=dict)
    prompts: Lengths = field(default_factory=Lengths)  # all messages but the assistant's
    answers: Lengths = field(default_factory=Lengths)  # the assistant's messages, or plain text
    edges: tuple[int, ...] = EDGES

    def save(self, folder: Path) -> None:
        """Write STATISTICS into a dataset's folder."""
        write_json(folder / STATISTICS, asdict(self))


class Collector:
    """Counts examples one by one; `finish` gives the totals."""

    def __init__(self) -> None:
        self._roles: Counter[str] = Counter()
        self._turns: Counter[int] = Counter()
        self._prompts, self._answers = array("i"), array("i")
        self._languages: list[np.ndarray] = []

    def see_text(self, length: int) -> None:
        """Count an example of plain text."""
        self._prompts.append(0)
        self._answers.append(length)

    def see_messages(self, messages: list[dict]) -> None:
        """Count a conversation."""
        prompt = answer = turns = 0
        for message in messages:
            role, size = message["role"], len(message["content"])
            self._roles[role] += 1
            if role == "assistant":
                answer += size
                turns += 1
            else:
                prompt += size
        self._turns[turns] += 1
        self._prompts.append(prompt)
        self._answers.append(answer)

    def see_languages(self, prompts: np.ndarray, answers: np.ndarray) -> None:
        """Note the languages of the next examples (uint8 indices into LANGUAGES)."""
        self._languages.append(np.stack([prompts, answers]))

    def languages(self) -> np.ndarray:
        """uint8 (2, examples): the languages of prompts and of answers."""
        return np.concatenate([np.empty((2, 0), np.uint8), *self._languages], axis=1)

    def finish(self) -> Statistics:
        """The totals."""
        prompts, answers = self.languages()
        return Statistics(
            rows=len(self._answers),
            messages=self._roles.total(),
            roles=dict(self._roles.most_common()),
            turns={str(turns): self._turns[turns] for turns in sorted(self._turns)},
            prompt_languages=_named(prompts) if self._roles else {},
            answer_languages=_named(answers),
            prompts=Lengths.of(np.frombuffer(self._prompts, np.int32)),
            answers=Lengths.of(np.frombuffer(self._answers, np.int32)),
        )


def _named(codes: np.ndarray) -> dict[str, int]:
    """Rows of each language, the most frequent first and the unclear ones last."""
    counts = np.bincount(codes, minlength=len(LANGUAGES))
    order = sorted(np.flatnonzero(counts), key=lambda code: (code == UNKNOWN, -counts[code]))
    return {LANGUAGES[code]: int(counts[code]) for code in order}


def read_statistics(folder: Path) -> Statistics | None:
    """The statistics in a dataset's folder; None if an older version stored none."""
    found: Any = read_json(folder / STATISTICS)
    if found is None:
        return None
    lengths = {side: Lengths(**found[side]) for side in ("prompts", "answers")}
    return Statistics(**{**found, **lengths, "edges": tuple(found["edges"])})
