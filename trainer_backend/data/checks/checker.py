"""Every problem of a whole data file, counted while its rows stream by, with the first row numbers.

Nothing is changed or raised here. Patterns in texts are text_checks.py, what only all rows together
show is whole_checks.py, and what one row means is formats.py; token lengths need a model.
"""

from array import array
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import numpy as np

from trainer_backend.data.checks.findings import Findings, Kind
from trainer_backend.data.checks.languages import languages_of
from trainer_backend.data.checks.near_duplicates import BINS, NEAR, Sketcher
from trainer_backend.data.checks.statistics import Collector
from trainer_backend.data.checks.texts import text_findings
from trainer_backend.data.checks.whole_file import Facts, whole_file
from trainer_backend.data.checks.words import word_arrays
from trainer_backend.data.formats import Example, order_problem
from trainer_backend.data.json_values import to_json
from trainer_backend.errors import Problem, RowError

BATCH_ROWS, BATCH_CHARS = 4_096, 4 * 1024 * 1024  # texts that are searched at once
SKETCHES = "sketches.bin"  # uint8 (examples, BINS), in the dataset's folder
MIN_LEAK = 40  # letters: shorter answers stand in their prompt for good reasons
_BOILERPLATE = (
    "as an ai language model", "as a large language model", "as an ai assistant, i",
    "my knowledge cutoff", "my last knowledge update", "i'm sorry, but i cannot assist",
    "i'm sorry, but i can't assist",
)  # fmt: skip
SAME_TEXT = Kind(
    "same_text",
    "warning",
    "The answer repeats the prompt.",
    "Check the columns' roles.",
    ("drop",),
)
BOILERPLATE = Kind(
    "boilerplate",
    "warning",
    "Answers hold another assistant's stock phrases.",
    "Leave such rows out, unless the model should answer like this.",
    ("drop",),
)
LABEL_LEAK = Kind(
    "label_leak",
    "info",
    "The whole answer already stands in the prompt.",
    "Make sure that the model will get this text too when it is used.",
    ("drop",),
)
OUTER_SPACE = Kind(
    "outer_space",
    "info",
    "Answers begin or end with white space.",
    "The model learns it too, unless you have it taken off.",
    ("trim",),
)
_EMPTY_SIDES = {
    "The answer is empty.": "empty_answer",
    "The answer is missing.": "empty_answer",
    "The prompt is empty.": "empty_prompt",
    "A user message is empty.": "empty_prompt",
    "The text is empty.": "empty_text",
}


class Checker:
    """Collects findings row by row: `see` a good example, `drop` a bad row, then `finish`.

    With a folder it leaves there: SKETCHES, by which another dataset can be compared with this one,
    NEAR (which examples nearly repeat an earlier one), and the statistics.
    """

    def __init__(self, file_name: str, folder: Path | None = None):
        self.file_name = file_name
        self.num_examples = 0
        self.statistics = Collector()
        self.problem_rows: list[np.ndarray] = []  # all rows of each problem, once finished
        self.near: np.ndarray = np.empty(
            (2, 0), np.int64
        )  # examples and the earlier one they repeat
        self._findings = Findings()
        self._facts, self._folder = Facts(), folder
        self._sketcher, self._sketches = Sketcher(), bytearray()
        self._file = open(folder / SKETCHES, "w+b") if folder else None  # noqa: SIM115
        self._rows, self._asked, self._answers = array("q"), [], []
        self._others: list[tuple[int, str]] = []
        self._size = 0

    def see(self, example: Example, written: str = "") -> int:
        """Check one example (`written`: its JSON, if known); returns the digest of duplicates."""
        self.num_examples += 1
        whole = written or as_written(example)
        digest = digest_of(whole)
        if example.messages is None:
            asked, answer, other = "", example.text or "", ""
            self.statistics.see_text(len(answer))
        else:
            asked, answer, other = self._sides(example, whole)
            self._check_sides(example.row, asked, answer)
        self._facts.digests.append(digest)
        self._rows.append(example.row)
        self._asked.append(asked)
        self._answers.append(answer)
        if other:
            self._others.append((len(self._rows) - 1, other))
        self._size += len(whole)
        if self._size >= BATCH_CHARS or len(self._rows) >= BATCH_ROWS:
            self._search()
        return digest

    def drop(self, row: int, error: RowError) -> None:
        """Count a row that cannot be used and is left out."""
        code = _EMPTY_SIDES.get(error.what, "unusable_row")
        fix = f"Such rows are left out. {error.fix}"
        self._findings.add(Kind(code, "warning", error.what, fix), row)

    def so_far(self) -> list[Problem]:
        """What single rows have shown until now; comparing rows with each other comes last."""
        self._search()
        pairs = self._findings.problems(self.file_name, self.num_examples)
        return [problem for problem, _ in pairs]

    def finish(self) -> list[Problem]:
        """All problems: errors first, then by how many rows they touch."""
        self._search()
        sketches = self._all_sketches()
        more, self.near = whole_file(self._facts, sketches, self.statistics, self.file_name)
        pairs = self._findings.problems(self.file_name, self.num_examples, more)
        self.problem_rows = [rows for _, rows in pairs]
        if self._folder is not None:
            self._file.close()
            np.save(self._folder / NEAR, self.near)
            self.statistics.finish().save(self._folder)
        return [problem for problem, _ in pairs]

    def _sides(self, example: Example, whole: str) -> tuple[str, str, str]:
        """(what the user says, what the assistant says, all else) of a conversation."""
        messages = example.messages
        self.statistics.see_messages(messages)
        plain = len(messages) == 2 and not example.tools and len(messages[1]) == 2
        if plain and messages[0]["role"] == "user" and messages[1]["role"] == "assistant":
            return messages[0]["content"], messages[1]["content"], ""
        odd = order_problem(messages)
        if odd:
            self._findings.add(Kind("role_order", "warning", *odd, ("drop",)), example.row)
        said = {"user": [], "assistant": [], "system": [], "tool": []}
        for message in messages:
            said[message["role"]].append(message["content"])
        extra = example.tools or any(len(message) > 2 for message in messages)
        other = whole if extra else "\n".join(said["system"] + said["tool"])
        return "\n".join(said["user"]), "\n".join(said["assistant"]), other

    def _check_sides(self, row: int, asked: str, answer: str) -> None:
        trimmed = answer.strip()
        if not trimmed:  # only calls of tools
            return
        if trimmed == asked.strip():
            self._findings.add(SAME_TEXT, row)
        elif len(answer) >= MIN_LEAK and trimmed in asked:
            self._findings.add(LABEL_LEAK, row)
        if len(trimmed) != len(answer):
            self._findings.add(OUTER_SPACE, row)
        if asked.endswith(trimmed) and not asked[: -len(trimmed)][-1:].isalnum():
            self._facts.leaks += 1

    def _search(self) -> None:
        """Look through the texts gathered so far, all at once."""
        if not self._rows:
            return
        self._facts.add(self._rows, self._asked, self._answers)
        numbers, count = np.array(self._rows, np.int64), len(self._rows)
        sides = [text for pair in zip(self._asked, self._answers, strict=True) for text in pair]
        row_of_text = np.arange(2 * count) // 2
        words = word_arrays(sides)
        spoken = languages_of(words)
        self.statistics.see_languages(spoken[0::2], spoken[1::2])
        self._keep(self._sketcher.sketch(words, row_of_text, count).tobytes())
        row_of_text = np.append(row_of_text, [at for at, _ in self._others]).astype(np.int64)
        texts = sides + [text for _, text in self._others]
        for kind, found in text_findings(texts):
            self._findings.extend(kind, np.unique(numbers[row_of_text[found]]))
        self._findings.extend(BOILERPLATE, numbers[_boilerplate(self._answers)])
        self._rows, self._asked, self._answers = array("q"), [], []
        self._others, self._size = [], 0

    def _keep(self, sketches: bytes) -> None:
        if self._file is None:
            self._sketches += sketches
        else:
            self._file.write(sketches)

    def _all_sketches(self) -> np.ndarray:
        if self._file is None or not self.num_examples:
            return np.frombuffer(self._sketches, np.uint8).reshape(-1, BINS)
        self._file.flush()
        return np.memmap(self._file, np.uint8, "r").reshape(-1, BINS)


def _boilerplate(answers: list[str]) -> np.ndarray:
    """Indices of the answers with a stock phrase."""
    lowered = _lowered("\0".join(answers))
    phrases = [phrase for phrase in _BOILERPLATE if phrase in lowered]
    if not phrases:
        return np.empty(0, np.int64)
    return np.flatnonzero(
        [any(phrase in _lowered(answer) for phrase in phrases) for answer in answers]
    )


def _lowered(text: str) -> str:
    return text.lower().replace("’", "'")


def as_written(example: Example) -> str:
    """The whole example as one text: equal for exact duplicates."""
    if example.messages is None:
        return example.text or ""
    tools = "" if example.tools is None else to_json(example.tools)
    return to_json(example.messages) + tools


def digest_of(text: str) -> int:
    """A 64-bit fingerprint of a text, the same on every machine."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def check_examples(examples: Iterable[Example], file_name: str) -> list[Problem]:
    """Check examples that are already in memory."""
    checker = Checker(file_name)
    for example in examples:
        checker.see(example)
    return checker.finish()
