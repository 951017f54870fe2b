"""Every problem of a whole data file, counted while its rows stream by, with the first row numbers.

Nothing is changed or raised here. What one row means is formats.py; token lengths need a model.
"""

import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from trainer_backend.data.conversations import RowError, order_problem
from trainer_backend.data.formats import Example
from trainer_backend.data.json_values import to_json
from trainer_backend.data.text_checks import answer_findings, text_findings
from trainer_backend.errors import Problem

FIRST_ROWS = 100  # row numbers kept for each kind of problem
MAX_KINDS = 60
FEW_ROWS = 20
_CONTROL_TOKEN = re.compile(
    r"<\|[A-Za-z0-9_ ./-]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>"
    r"|<(?:bos|eos|pad|unk)>|<(?:start_of_turn|end_of_turn)>|<｜[^｜<>]{1,40}｜>"
)
_MOJIBAKE = re.compile(
    "[ÃÂ][\u0080-\u00bf]|â€[\u0080-\u00bf™œ¦“”\u009d]|ðŸ[\u0080-\u00bf˜™š]|ï»¿|Ã[¤¶¼ŸŽ©¨]"
)
_ESCAPED_CONTROL = re.compile(r"(?<!\\)(?:\\\\)*\\u00(?:0[0-8be-f]|1[0-9a-f])")  # as JSON writes it
_CONTROL_LETTER = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")


@dataclass
class _Finding:
    severity: str
    fix: str
    rows: array = field(default_factory=lambda: array("q"))

    def add(self, row: int) -> None:
        if not self.rows or self.rows[-1] != row:
            self.rows.append(row)


class Checker:
    """Collects findings row by row: `see` a good example, `drop` a bad row, then `finish`."""

    def __init__(self, file_name: str):
        self.file_name = file_name
        self.num_examples = 0
        self._findings: dict[str, _Finding] = {}
        self._row_numbers, self._digests = array("q"), array("q")
        self._prompts = array("q")
        self.problem_rows: list[np.ndarray] = []  # all rows of each problem, once finished

    def see(self, example: Example, written: str = "") -> int:
        """Check one example (`written`: its JSON, if known); returns the digest of duplicates."""
        self.num_examples += 1
        whole = written or as_written(example)
        digest = digest_of(whole)
        self._row_numbers.append(example.row)
        self._digests.append(digest)
        if example.messages is not None:
            self._check_messages(example.row, example.messages)
        self._check_text(example.row, whole)
        return digest

    def drop(self, row: int, error: RowError) -> None:
        """Count a row that cannot be used and is left out."""
        self._find(row, "warning", error.what, f"Such rows are left out. {error.fix}")

    def finish(self) -> list[Problem]:
        """All problems: errors first, then by how many rows they touch."""
        found = [
            self._problem(finding.severity, what, finding.rows, finding.fix)
            for what, finding in self._findings.items()
        ]
        found += self._duplicates() + self._totals()
        order = {"error": 0, "warning": 1, "info": 2}
        found.sort(key=lambda pair: (order[pair[0].severity], -pair[0].count))
        self.problem_rows = [rows for _, rows in found]
        return [problem for problem, _ in found]

    def _find(self, row: int, severity: str, what: str, fix: str) -> None:
        if what not in self._findings and len(self._findings) >= MAX_KINDS:
            what, fix = "Other problems", "Correct the problems above first, then look again."
        self._findings.setdefault(what, _Finding(severity, fix)).add(row)

    def _check_messages(self, row: int, messages: list[dict]) -> None:
        odd = order_problem(messages)
        if odd:
            self._find(row, "warning", *odd)
        asked = "\0".join(m["content"] for m in messages if m["role"] in ("user", "system"))
        self._prompts.append(digest_of(asked))
        said = [message["content"].strip() for message in messages[-2:]]
        if len(said) == 2 and said[0] and said[0] == said[1]:
            self._find(
                row, "warning", "The answer repeats the prompt.", "Check the columns' roles."
            )
        elif messages[-1]["role"] == "assistant":
            for finding in answer_findings(asked, messages[-1]["content"]):
                self._find(row, *finding)

    def _check_text(self, row: int, text: str) -> None:
        for finding in text_findings(text):
            self._find(row, *finding)
        if ("<" in text or "[" in text) and _CONTROL_TOKEN.search(text):
            self._find(
                row,
                "warning",
                "A text holds what looks like control tokens of a chat template.",
                "They are trained as plain text. Remove them if an earlier template left them.",
            )
        if not text.isascii():
            self._check_damage(row, text)
        if "\\u00" in text or not text.isprintable():
            self._check_control(row, text)

    def _check_damage(self, row: int, text: str) -> None:
        if "\ufffd" in text:
            self._find(
                row,
                "warning",
                "A text holds the replacement character \ufffd: letters were lost.",
                "Export the data again as UTF-8 from where it came from.",
            )
        if _MOJIBAKE.search(text):
            self._find(
                row,
                "warning",
                "A text looks wrongly decoded (like Ã© instead of é).",
                "Export the data again as UTF-8 from where it came from.",
            )

    def _check_control(self, row: int, text: str) -> None:
        if _ESCAPED_CONTROL.search(text) or _CONTROL_LETTER.search(text):
            self._find(
                row,
                "info",
                "A text holds invisible control characters.",
                "They are kept as they are. Remove them if they are not meant.",
            )

    def _duplicates(self) -> list[tuple[Problem, np.ndarray]]:
        rows = repeated_rows(self._row_numbers, self._digests)
        found = []
        if len(rows):
            all_same = len(rows) == self.num_examples - 1
            what = "All rows are the same." if all_same else "Rows repeat an earlier row exactly."
            fix = "They count more in training. Remove them if that is not meant."
            found.append(self._problem("warning", what, rows, fix))
        if len(self._prompts) < len(self._row_numbers):
            return found
        asked = repeated_rows(self._row_numbers, self._prompts)
        asked = asked[~np.isin(asked, rows)]
        if len(asked):
            what = "Prompts repeat an earlier prompt with another answer."
            fix = "Fine for varied answers; otherwise keep the better one."
            found.append(self._problem("info", what, asked, fix))
        return found

    def _totals(self) -> list[tuple[Problem, np.ndarray]]:
        if self.num_examples == 1:
            fix = "The model will learn it by heart. Add more rows."
            what = "There is only one usable row."
            return [self._problem("warning", what, self._row_numbers, fix)]
        if 0 < self.num_examples < FEW_ROWS:
            what = f"There are only {self.num_examples} usable rows."
            fix = "A few hundred different rows teach more reliably."
            return [self._problem("info", what, (), fix)]
        return []

    def _problem(
        self, severity: str, what: str, rows: Sequence[int], fix: str
    ) -> tuple[Problem, np.ndarray]:
        first = tuple(int(row) for row in rows[:FIRST_ROWS])
        where = f"{self.file_name}, {rows_text(first, len(rows))}" if first else self.file_name
        problem = Problem(severity, what, where, fix, first, len(rows))
        return problem, np.asarray(rows, dtype=np.int64)


def as_written(example: Example) -> str:
    """The whole example as one text: equal for exact duplicates."""
    if example.messages is None:
        return example.text or ""
    tools = "" if example.tools is None else to_json(example.tools)
    return to_json(example.messages) + tools


def digest_of(text: str) -> int:
    """A 64-bit fingerprint of a text, the same on every machine."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def repeated_rows(rows: array, digests: array) -> np.ndarray:
    """The numbers of the rows whose digest an earlier row has, in order."""
    numbers, values = np.frombuffer(rows, np.int64), np.frombuffer(digests, np.int64)
    if len(values) < 2:
        return np.empty(0, np.int64)
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    again = order[1:][ordered[1:] == ordered[:-1]]
    return np.sort(numbers[again])


def rows_text(rows: Iterable[int], count: int) -> str:
    """ "row 3", "rows 3, 5 and 9", "rows 3, 5, 9, 12, 13 and 40 more"."""
    shown = [f"{row:,}" for row in list(rows)[:5]]
    if count > len(shown):
        return f"rows {', '.join(shown)} and {count - len(shown):,} more"
    if len(shown) == 1:
        return f"row {shown[0]}"
    return f"rows {', '.join(shown[:-1])} and {shown[-1]}"


def check_examples(examples: Iterable[Example], file_name: str) -> list[Problem]:
    """Check examples that are already in memory."""
    checker = Checker(file_name)
    for example in examples:
        checker.see(example)
    return checker.finish()
