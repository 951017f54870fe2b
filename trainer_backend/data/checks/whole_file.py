"""Checks that need all rows together: repeats, odd lengths, cut answers, mixed languages.

Only a few numbers per row are kept; the texts themselves are gone by now.
"""

import re
from array import array
from dataclasses import dataclass, field, replace

import numpy as np

from trainer_backend.data.checks.findings import Kind, problem_of
from trainer_backend.data.checks.languages import LANGUAGES, UNKNOWN
from trainer_backend.data.checks.near_duplicates import near_repeats
from trainer_backend.data.checks.statistics import Collector
from trainer_backend.errors import Problem

FEW_ROWS = 20
MANY = 20  # rows: fractions of fewer mean little
LONG_ANSWER = 80  # characters: shorter answers often end without a mark
MOST = 0.8  # if this fraction of long answers ends with a mark, the others are odd
SHORT_LINE = 40  # characters: a shorter last line is not running text
_CUT_MARKS = frozenset(",;-–—")
_LIST_ITEM = re.compile(r"\s*(?:[-*+•>#|]|\(?\w{1,3}[.)])\s")
_SENTENCE_END = re.compile(r"[.!?:]['\"”’)]*\s")
_WORD = re.compile(r"[“\"'(]?[^\W_]+(?:['’-][^\W_]+)*[,;–—-]?")

MORE_WEIGHT = "Repeated rows get more weight in training."
DUPLICATES = Kind(
    "duplicates", "warning", "Rows repeat an earlier row exactly.", MORE_WEIGHT, ("keep_one",)
)
NEAR_DUPLICATES = Kind(
    "near_duplicates",
    "info",
    "Rows nearly repeat an earlier row: at least four fifths of the words are the same.",
    MORE_WEIGHT,
    ("keep_one",),
)
PROMPT_REPEATS = Kind(
    "prompt_repeats",
    "info",
    "Prompts repeat an earlier prompt with another answer.",
    "Fine if the answers are meant to vary; otherwise keep the better one.",
    ("keep_one",),
)
SAME_ANSWER = Kind("same_answer", "info", "Many prompts have the same answer.", "", ("drop",))
SHORT_ANSWERS = Kind(
    "short_answers", "info", "A few answers are much shorter than the others.", "", ("drop",)
)
CUT_ANSWERS = Kind(
    "cut_answers", "warning", "Answers stop in the middle of a sentence.", "", ("drop",)
)
LEAKED_LABELS = Kind(
    "leaked_labels",
    "warning",
    "Nearly every prompt ends with its answer.",
    "Remove the answer from the prompts: the model would only learn to copy it.",
)
MIXED_LANGUAGES = Kind(
    "mixed_languages", "info", "Answers are in another language than their prompt.", "", ("drop",)
)


@dataclass
class Facts:
    """A few numbers about each example, in the order of the rows."""

    rows: array = field(default_factory=lambda: array("q"))
    digests: array = field(default_factory=lambda: array("q"))  # of the whole example, 64 bits
    prompts: array = field(default_factory=lambda: array("q"))  # hash(): valid in this process only
    answers: array = field(default_factory=lambda: array("q"))
    lengths: array = field(default_factory=lambda: array("i"))  # of the answers, in characters
    cut: array = field(default_factory=lambda: array("b"))  # see ends_in_mid_sentence
    leaks: int = 0  # prompts that end with their answer

    def add(self, rows: array, prompts: list[str], answers: list[str]) -> None:
        """Note the next examples, all but their digests and leaks."""
        self.rows.extend(rows)
        self.prompts.extend(map(hash, prompts))
        self.answers.extend(map(hash, answers))
        self.lengths.extend(map(len, answers))
        self.cut.extend(map(ends_in_mid_sentence, answers))


def whole_file(
    facts: Facts, sketches: np.ndarray, statistics: Collector, file_name: str
) -> tuple[list[tuple[Problem, np.ndarray]], np.ndarray]:
    """The problems with all their rows, and near_repeats() as int64 (2, n)."""
    numbers = np.frombuffer(facts.rows, np.int64)
    repeats = _again(np.frombuffer(facts.digests, np.int64))
    near, earlier = near_repeats(sketches, repeats)
    found = [
        (_all_the_same(repeats), repeats),
        (NEAR_DUPLICATES, near),
        _repeated_prompts(facts, repeats, near),
        _same_answer(facts, repeats),
        _short_answers(facts),
        _cut_answers(facts),
        _mixed_languages(statistics),
        _leaked_labels(facts),
    ]
    problems = []
    for kind, which in found:
        rows = numbers[which]
        if len(rows):
            problems.append(problem_of(kind, rows, file_name, len(numbers)))
    problems += [problem_of(kind, rows, file_name, len(numbers)) for kind, rows in _few(numbers)]
    return problems, np.stack([near, earlier])


def _again(values: np.ndarray) -> np.ndarray:
    """A mask of the values that occur earlier too."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    again = np.zeros(len(values), bool)
    again[order[1:][ordered[1:] == ordered[:-1]]] = True
    return again


def _all_the_same(repeats: np.ndarray) -> Kind:
    if len(repeats) > 1 and repeats.sum() == len(repeats) - 1:
        return replace(DUPLICATES, what="All rows are the same.")
    return DUPLICATES


def _repeated_prompts(
    facts: Facts, repeats: np.ndarray, near: np.ndarray
) -> tuple[Kind, np.ndarray]:
    prompts = np.frombuffer(facts.prompts, np.int64)
    again = _again(prompts) & ~repeats & (prompts != hash(""))
    again[near] = False
    return PROMPT_REPEATS, again


def _same_answer(facts: Facts, repeats: np.ndarray) -> tuple[Kind, np.ndarray]:
    """One answer to many prompts; nothing where most answers repeat, as labels do."""
    answers = np.frombuffer(facts.answers, np.int64)
    values, counts = np.unique(answers[~repeats], return_counts=True)
    if len(answers) < MANY or len(values) < 0.5 * counts.sum():
        return SAME_ANSWER, np.zeros(len(answers), bool)
    often = np.isin(answers, values[counts >= max(5, 0.01 * counts.sum())]) & ~repeats
    most, total = int(counts.max()), int(often.sum())
    fix = f"The most frequent answer occurs in {most:,} of {len(answers):,} rows."
    fix += f" {total:,} rows have a frequent answer; the model will learn to give it often."
    return replace(SAME_ANSWER, fix=fix), often


def _short_answers(facts: Facts) -> tuple[Kind, np.ndarray]:
    lengths = np.frombuffer(facts.lengths, np.int32)
    typical = int(np.median(lengths)) if len(lengths) else 0
    limit = min(20, typical // 10)
    short = lengths < limit
    if len(lengths) < MANY or short.mean() > 0.2:
        return SHORT_ANSWERS, np.zeros(len(lengths), bool)
    fix = f"They have fewer than {limit} characters; half of all answers have {typical:,} or more."
    fix += " Fine where the prompt asks for a short answer."
    return replace(SHORT_ANSWERS, fix=fix), short


def ends_in_mid_sentence(answer: str) -> bool:
    """Whether running text ends with a word or a mark that must be followed by one.

    False for list items, headings, addresses and the name after a quote.
    """
    text = answer.rstrip()
    if not (text[-1:].isalpha() or text[-1:] in _CUT_MARKS):
        return False
    line = text[text.rfind("\n") + 1 :]
    if _LIST_ITEM.match(line) or (len(line) < SHORT_LINE and len(line) < len(text)):
        return False
    words = _SENTENCE_END.split(line)[-1].split()
    return len(words) > 1 and bool(_WORD.fullmatch(words[-1]))


def _cut_answers(facts: Facts) -> tuple[Kind, np.ndarray]:
    lengths, cut = np.frombuffer(facts.lengths, np.int32), np.frombuffer(facts.cut, np.int8)
    long = lengths >= LONG_ANSWER
    odd = long & (cut != 0)
    if long.sum() < MANY or odd.sum() > (1 - MOST) * long.sum():
        odd = odd & _at_one_length(lengths, odd)
    count, of = int(odd.sum()), int(long.sum())
    fix = f"{of - count:,} of {of:,} longer answers end with a whole sentence."
    at_limit = _at_one_length(lengths, odd)
    if count and at_limit.sum() > max(4, 0.5 * count):
        low, high = int(lengths[at_limit].min()), int(lengths[at_limit].max())
        size = f"{high:,}" if low == high else f"{low:,} to {high:,}"
        fix += f" {int(at_limit.sum()):,} of the others are {size} characters long:"
        fix += " an export cut them off."
    return replace(CUT_ANSWERS, fix=fix), odd


def _at_one_length(lengths: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Those of `which` within 2 % of the longest answer, if lengths pile up there."""
    same = which & (lengths >= 0.98 * lengths.max(initial=0))
    below = (lengths >= 0.94 * lengths.max(initial=0)) & ~same
    return same if same.sum() >= max(5, 2 * below.sum()) else np.zeros(len(which), bool)


def _mixed_languages(statistics: Collector) -> tuple[Kind, np.ndarray]:
    prompts, answers = statistics.languages()
    known = (prompts != UNKNOWN) & (answers != UNKNOWN)
    mixed = known & (prompts != answers)
    count = int(mixed.sum())
    if count < max(3, 0.005 * len(prompts)):
        return MIXED_LANGUAGES, np.zeros(len(prompts), bool)
    pairs, counts = np.unique(
        prompts[mixed].astype(np.int64) << 8 | answers[mixed], return_counts=True
    )
    most = np.argsort(-counts, kind="stable")[:3]
    languages = ", ".join(
        f"{LANGUAGES[pairs[at] >> 8]} to {LANGUAGES[pairs[at] & 255]} {counts[at]:,}" for at in most
    )
    total = int(known.sum())
    fix = f"{100 * count / total:.0f} % of the {total:,} rows whose languages are clear"
    fix += f" ({languages}). Fine for translation; otherwise check them."
    return replace(MIXED_LANGUAGES, fix=fix), mixed


def _leaked_labels(facts: Facts) -> tuple[Kind, np.ndarray]:
    count = len(facts.rows)
    leaks = count >= MANY and facts.leaks >= MOST * count
    return LEAKED_LABELS, np.full(count, leaks, bool)


def _few(numbers: np.ndarray) -> list[tuple[Kind, np.ndarray]]:
    if len(numbers) == 1:
        fix = "The model will memorise it. Add more rows."
        return [(Kind("one_row", "warning", "There is only one usable row.", fix), numbers)]
    if 0 < len(numbers) < FEW_ROWS:
        what = f"There are only {len(numbers)} usable rows."
        fix = "A few hundred different rows train more reliably."
        return [(Kind("few_rows", "info", what, fix), numbers[:0])]
    return []
