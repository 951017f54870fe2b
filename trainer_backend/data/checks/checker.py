"""Checks every row of a dataset as it streams by, and keeps the row numbers of each finding.

Rows are never changed or refused here, and nothing is counted in tokens: no model is known.
"""

from array import array
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import numpy as np

from trainer_backend.data.checks.findings import LEFT_OUT, Findings, Kind
from trainer_backend.data.checks.languages import languages_of
from trainer_backend.data.checks.near_duplicates import BINS, NEAR, Sketcher
from trainer_backend.data.checks.statistics import Collector
from trainer_backend.data.checks.texts import MEDIA_MARKS, text_findings
from trainer_backend.data.checks.whole_file import Facts, whole_file
from trainer_backend.data.checks.words import word_arrays
from trainer_backend.data.formats import Example, order_problem
from trainer_backend.data.json_values import to_json
from trainer_backend.errors import Problem, RowError

BATCH_ROWS, BATCH_CHARS = 4_096, 4 * 1024 * 1024  # searched at once
SKETCHES = "sketches.bin"  # uint8 (examples, BINS), in the dataset's folder
MIN_LEAK = 40  # characters: a prompt may well contain a shorter answer
_BOILERPLATE = (
    "as an ai language model", "as a large language model", "as an ai assistant, i",
    "my knowledge cutoff", "my last knowledge update", "i'm sorry, but i cannot assist",
    "i'm sorry, but i can't assist",
)  # fmt: skip
SAME_TEXT = Kind(
    "same_text",
    "warning",
    "The answer repeats the prompt.",
    "Check which column is the prompt and which is the answer.",
    ("drop",),
)
BOILERPLATE = Kind(
    "boilerplate",
    "warning",
    "Answers contain stock phrases of another assistant.",
    "Leave these rows out unless the model should answer this way.",
    ("drop",),
)
LABEL_LEAK = Kind(
    "label_leak",
    "info",
    "The prompt already contains the whole answer.",
    "Check that prompts will contain this text in use; otherwise the model only learns to copy.",
    ("drop",),
)
OUTER_SPACE = Kind(
    "outer_space",
    "info",
    "Answers begin or end with white space.",
    "The model learns to write it too. Remove it unless it is intended.",
    ("trim",),
)


MISSING_VALUE = Kind(
    "missing_value",
    "warning",
    "A prompt or an answer is only a mark for a missing value, such as NaN, None or N/A.",
    "It is trained as text. Fill in what is missing, or leave these rows out.",
    ("drop",),
)
_MISSING = frozenset(
    "nan none null n/a #n/a na <na> nat nil undefined - -- – — #nv #value! #ref! #div/0! #name? "
    "#null! #num! (null) (none) \\n n.a. n.a".split()
)
_LONGEST_MARK = 40  # characters, with white space around it


class Checker:
    """Collects findings row by row: `see` a good example, `drop` a bad row, then `finish`.

    With a folder it writes there: SKETCHES and NEAR (near-duplicate rows), and the statistics.
    """

    def __init__(self, file_name: str, folder: Path | None = None) -> None:
        self.file_name = file_name
        self.num_examples = 0
        self.statistics = Collector()
        self.problem_rows: list[np.ndarray] = []  # after finish(): all rows of each problem
        self.near = np.empty((2, 0), np.int64)  # as near_repeats() returns it
        self._findings = Findings()
        self._facts, self._folder = Facts(), folder
        self._sketcher, self._sketches = Sketcher(), bytearray()
        self._file = open(folder / SKETCHES, "w+b") if folder else None  # noqa: SIM115
        self._rows = array("q")
        self._prompts: list[str] = []
        self._answers: list[str] = []
        self._others: list[tuple[int, str]] = []  # (place in the batch, system and tool texts)
        self._pictured: set[int] = set()  # the rows of the batch that have images
        self._size = 0

    def see(self, example: Example, written: str = "") -> int:
        """Check one example; `written` is its JSON, if known. Returns its digest (64 bits)."""
        self.num_examples += 1
        for note in example.notes:
            kind = Kind(note.code, note.severity, note.what, note.fix)
            self._findings.add(kind, example.row)
        whole = written or as_written(example)
        digest = digest_of(whole)
        if example.messages is None:
            prompt, answer, other = "", example.text or "", ""
            self.statistics.see_text(len(answer))
            if is_missing(answer):
                self._findings.add(MISSING_VALUE, example.row)
        else:
            prompt, answer, other = self._sides(example, example.messages, whole)
            self._check_sides(example.row, prompt, answer)
            if answer != answer.strip() or len(example.messages) > 2:
                self._check_space(example.row, example.messages)
        if example.images:
            self._pictured.add(example.row)
        self._facts.digests.append(digest)
        self._rows.append(example.row)
        self._prompts.append(prompt)
        self._answers.append(answer)
        if other:
            self._others.append((len(self._rows) - 1, other))
        self._size += len(whole)
        if self._size >= BATCH_CHARS or len(self._rows) >= BATCH_ROWS:
            self._search()
        return digest

    def drop(self, row: int, error: RowError) -> None:
        """Count a row that cannot be used; a cleaned version may do without it."""
        fix = LEFT_OUT + error.fix
        self._findings.add(Kind(error.code, "warning", error.what, fix, ("drop",)), row)

    def so_far(self) -> list[Problem]:
        """The problems found in single rows until now, before rows are compared with each other."""
        self._search()
        pairs = self._findings.problems(self.file_name, self.num_examples)
        return [problem for problem, _ in pairs]

    def finish(self) -> list[Problem]:
        """All problems: errors first, then by number of rows."""
        self._search()
        sketches = self._all_sketches()
        more, self.near = whole_file(self._facts, sketches, self.statistics, self.file_name)
        pairs = self._findings.problems(self.file_name, self.num_examples, more)
        self.problem_rows = [rows for _, rows in pairs]
        if self._folder and self._file:
            self._file.close()
            np.save(self._folder / NEAR, self.near)
            self.statistics.finish().save(self._folder)
        return [problem for problem, _ in pairs]

    def _sides(self, example: Example, messages: list[dict], whole: str) -> tuple[str, str, str]:
        """(user texts, assistant texts, all other texts) of a conversation."""
        self.statistics.see_messages(messages)
        plain = len(messages) == 2 and not example.tools and len(messages[1]) == 2
        if plain and messages[0]["role"] == "user" and messages[1]["role"] == "assistant":
            return messages[0]["content"], messages[1]["content"], ""
        odd = order_problem(messages)
        if odd:
            ways = ("drop", "join") if odd[0].startswith("Two ") else ("drop",)
            self._findings.add(Kind("role_order", "warning", *odd, ways), example.row)
        texts: dict[str, list[str]] = {"user": [], "assistant": [], "system": [], "tool": []}
        for message in messages:
            texts[message["role"]].append(message["content"])
            if message["role"] != "tool" and is_missing(message["content"]):
                self._findings.add(MISSING_VALUE, example.row)
        extra = example.tools or any(len(message) > 2 for message in messages)
        other = whole if extra else "\n".join(texts["system"] + texts["tool"])
        return "\n".join(texts["user"]), "\n".join(texts["assistant"]), other

    def _check_sides(self, row: int, prompt: str, answer: str) -> None:
        trimmed = answer.strip()
        if is_missing(answer) or is_missing(_last_paragraph(prompt)):
            self._findings.add(MISSING_VALUE, row)
        if not trimmed:  # only tool calls
            return
        if trimmed == prompt.strip():
            self._findings.add(SAME_TEXT, row)
        elif len(answer) >= MIN_LEAK and trimmed in prompt:
            self._findings.add(LABEL_LEAK, row)
        if prompt.endswith(trimmed) and not prompt[: -len(trimmed)][-1:].isalnum():
            self._facts.leaks += 1

    def _check_space(self, row: int, messages: list[dict]) -> None:
        """Note a row with an answer to learn that begins or ends with white space."""
        for message in messages:
            text = message["content"]
            if message["role"] != "assistant" or message.get("train") is False:
                continue
            if text[:1].isspace() or text[-1:].isspace():
                if text.strip():  # else there are only calls
                    self._findings.add(OUTER_SPACE, row)
                    return

    def _search(self) -> None:
        """Search the texts of the batch, all at once."""
        if not self._rows:
            return
        self._facts.add(self._rows, self._prompts, self._answers)
        numbers, count = np.array(self._rows, np.int64), len(self._rows)
        sides = [text for pair in zip(self._prompts, self._answers, strict=True) for text in pair]
        row_of_text = np.arange(2 * count) // 2
        words = word_arrays(sides)
        languages = languages_of(words)
        self.statistics.see_languages(languages[0::2], languages[1::2])
        self._keep(self._sketcher.sketch(words, row_of_text, count).tobytes())
        row_of_text = np.append(row_of_text, [at for at, _ in self._others]).astype(np.int64)
        texts = sides + [text for _, text in self._others]
        for kind, found in text_findings(texts):
            rows = np.unique(numbers[row_of_text[found]])
            if kind is MEDIA_MARKS and self._pictured:
                rows = rows[~np.isin(rows, list(self._pictured))]
            self._findings.extend(kind, rows)
        self._findings.extend(BOILERPLATE, numbers[_boilerplate(self._answers)])
        self._rows, self._prompts, self._answers = array("q"), [], []
        self._others, self._size = [], 0
        self._pictured = set()

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


def is_missing(text: str) -> bool:
    """Whether a text only says that a value is missing: NaN, None, N/A, a dash, an Excel error."""
    return len(text) <= _LONGEST_MARK and text.strip().casefold() in _MISSING


def _last_paragraph(prompt: str) -> str:
    """What follows the last empty line, as the text that a prompt is about; all without one.

    Only the last characters are looked at.
    """
    at = prompt.rfind("\n\n", -_LONGEST_MARK - 2)
    return prompt if at < 0 else prompt[at + 2 :]


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
    """BLAKE2b of a text as a signed 64-bit integer, the same on every machine."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def check_examples(examples: Iterable[Example], file_name: str) -> list[Problem]:
    """Check examples that are already in memory."""
    checker = Checker(file_name)
    for example in examples:
        checker.see(example)
    return checker.finish()
