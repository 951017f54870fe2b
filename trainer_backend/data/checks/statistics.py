"""How much there is of what: messages, roles, turns, lengths in characters, languages.

Collected in the one pass over the rows (checks.py), stored with the dataset; tokens need a model.
"""

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from trainer_backend.data.checks.languages import LANGUAGES, UNKNOWN, languages_of
from trainer_backend.data.checks.words import word_arrays
from trainer_backend.data.formats import Example
from trainer_backend.home import read_json, write_json

STATISTICS = "statistics.json"
BATCH = 2_000
EDGES = (0, 1, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)


@dataclass(frozen=True)
class Lengths:
    """Lengths in characters: how many are from each of EDGES up to the next, and the usual ones."""

    counts: list[int] = field(default_factory=lambda: [0] * len(EDGES))
    median: int = 0
    p95: int = 0
    longest: int = 0
    total: int = 0

    @classmethod
    def of(cls, values: np.ndarray) -> "Lengths":
        """Count an int array."""
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
    """Totals of a dataset. Languages are guesses from common words; unclear texts are "unknown"."""

    rows: int = 0  # examples: the rows that train
    messages: int = 0
    roles: dict[str, int] = field(default_factory=dict)  # role -> messages
    turns: dict[str, int] = field(default_factory=dict)  # answers in a conversation -> rows
    prompt_languages: dict[str, int] = field(default_factory=dict)  # language -> rows
    answer_languages: dict[str, int] = field(default_factory=dict)
    prompts: Lengths = field(default_factory=Lengths)  # all that is not the assistant's
    answers: Lengths = field(default_factory=Lengths)  # all the assistant says; the text of a text
    edges: tuple[int, ...] = EDGES

    def save(self, folder: Path) -> None:
        """Write STATISTICS into a dataset's folder."""
        write_json(folder / STATISTICS, asdict(self))


class Collector:
    """Counts examples one by one; `finish` gives the totals."""

    def __init__(self):
        self._roles, self._turns = Counter(), Counter()
        self._prompts, self._answers = array("i"), array("i")
        self._languages: list[np.ndarray] = []

    def see_text(self, length: int) -> None:
        """Count an example of plain text."""
        self._prompts.append(0)
        self._answers.append(length)

    def see_messages(self, messages: list[dict]) -> None:
        """Count a conversation."""
        asked = answered = turns = 0
        for message in messages:
            role, size = message["role"], len(message["content"])
            self._roles[role] += 1
            if role == "assistant":
                answered += size
                turns += 1
            else:
                asked += size
        self._turns[turns] += 1
        self._prompts.append(asked)
        self._answers.append(answered)

    def see_languages(self, asked: np.ndarray, answered: np.ndarray) -> None:
        """Note the languages of the next examples (uint8 indices into LANGUAGES)."""
        self._languages.append(np.stack([asked, answered]))

    def languages(self) -> np.ndarray:
        """uint8 (2, examples): of each prompt and of each answer."""
        return np.concatenate([np.empty((2, 0), np.uint8), *self._languages], axis=1)

    def finish(self) -> Statistics:
        """The totals."""
        asked, answered = self.languages()
        return Statistics(
            rows=len(self._answers),
            messages=self._roles.total(),
            roles=dict(self._roles.most_common()),
            turns={str(turns): self._turns[turns] for turns in sorted(self._turns)},
            prompt_languages=_named(asked) if self._roles else {},
            answer_languages=_named(answered),
            prompts=Lengths.of(np.frombuffer(self._prompts, np.int32)),
            answers=Lengths.of(np.frombuffer(self._answers, np.int32)),
        )


def _named(codes: np.ndarray) -> dict[str, int]:
    """Rows of each language, the most frequent first and the unclear ones last."""
    counts = np.bincount(codes, minlength=len(LANGUAGES))
    order = sorted(np.flatnonzero(counts), key=lambda code: (code == UNKNOWN, -counts[code]))
    return {LANGUAGES[code]: int(counts[code]) for code in order}


def dataset_statistics(dataset) -> Statistics:
    """The statistics of a StoredDataset; counted now if it was stored before there were any."""
    found = read_statistics(dataset.dir)
    if found is None:
        found = _counted(dataset.examples())
        found.save(dataset.dir)
    return found


def _counted(examples: Iterable[Example]) -> Statistics:
    collector = Collector()
    while batch := list(islice(examples, BATCH)):
        asked, answered = [], []
        for example in batch:
            messages = example.messages or []
            asked.append("\n".join(one["content"] for one in messages if one["role"] == "user"))
            said = [one["content"] for one in messages if one["role"] == "assistant"]
            answered.append(example.text or "\n".join(said))
            if example.messages is None:
                collector.see_text(len(example.text))
            else:
                collector.see_messages(messages)
        spoken = languages_of(word_arrays([*asked, *answered]))
        collector.see_languages(spoken[: len(batch)], spoken[len(batch) :])
    return collector.finish()


def read_statistics(folder: Path) -> Statistics | None:
    """The statistics in a dataset's folder; None if it was stored before there were any."""
    found = read_json(folder / STATISTICS)
    if found is None:
        return None
    lengths = {side: Lengths(**found[side]) for side in ("prompts", "answers")}
    return Statistics(**{**found, **lengths, "edges": tuple(found["edges"])})
