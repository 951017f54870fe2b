"""Measures of text against sacrebleu, rouge-score and SQuAD's own normalisation."""

import collections
import random
import re
import string
import time

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.chrf import CHRF

from trainer_backend.evaluation.measures.overlap import (
    chrf,
    contains,
    longest_common,
    rouge_l,
    token_f1,
)
from trainer_backend.evaluation.measures.words import rouge_words, words

LATIN = (
    ("The cat sat on the mat.", "A cat is on the mat!"),
    ("Großer Käse, 3.14 €", "großer käse kostet 3,14"),
    ("l'été à Besançon", "L’été à Besançon — déjà fini"),
    ("snake_case and CamelCase x2", "snake case and camelcase x2"),
    ("", "something"),
    ("…", "…"),
    ("a b c d e f g", "g f e d c b a"),
    ("ｗｉｄｅ letters ½ ª", "wide letters"),
)


@pytest.mark.parametrize(("given", "expected"), LATIN)
def test_latin_text_scores_as_the_reference_programs_do(given: str, expected: str) -> None:
    reference = RougeScorer(["rougeL"]).score(expected, given)["rougeL"].fmeasure
    assert rouge_l(given, expected) == pytest.approx(reference, abs=1e-12)
    assert chrf(given, expected) == CHRF().sentence_score(given, [expected]).score / 100


def test_rouge_l_equals_the_reference_on_random_texts() -> None:
    drawn, scorer = random.Random(1), RougeScorer(["rougeL"])
    for _ in range(100):
        first, second = (
            " ".join(drawn.choice("red green blue Black white".split()) for _ in range(size))
            for size in (drawn.randint(0, 40), drawn.randint(1, 40))
        )
        wanted = scorer.score(second, first)["rougeL"].fmeasure
        assert rouge_l(first, second) == pytest.approx(wanted, abs=1e-12)


def test_answers_of_thousands_of_words_take_milliseconds() -> None:
    drawn = random.Random(2)
    first, second = (" ".join(str(drawn.randint(0, 300)) for _ in range(2000)) for _ in range(2))
    start = time.perf_counter()
    assert 0 < rouge_l(first, second) < 1
    assert 0 < token_f1(first, second) < 1
    assert time.perf_counter() - start < 0.5, "a table of 4 million cells takes over a second"


def squad_f1(given: str, expected: str) -> float:
    """The official evaluation script of SQuAD 1.1, shortened."""

    def normal(text: str) -> list[str]:
        bare = "".join(char for char in text.lower() if char not in set(string.punctuation))
        return re.sub(r"\b(a|an|the)\b", " ", bare).split()

    ours, theirs = normal(given), normal(expected)
    same = sum((collections.Counter(ours) & collections.Counter(theirs)).values())
    if not same:
        return 0.0
    precision, recall = same / len(ours), same / len(theirs)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("The Denver Broncos, in 2016", "Denver Broncos"),
        ("It's well-known: 3.14", "its wellknown 314"),
        ("a dog and a cat", "the cat and the cat"),
        ("nothing", "else"),
    ],
)
def test_token_f1_is_that_of_squad(given: str, expected: str) -> None:
    assert token_f1(given, expected) == pytest.approx(squad_f1(given, expected), abs=1e-12)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("東京は大きい。", ["東", "京", "は", "大", "き", "い"]),
        ("Москва — столица", ["москва", "столица"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("서울은 크다", ["서울은", "크다"]),
        ("مرحبا، بالعالم", ["مرحبا", "بالعالم"]),
        ("ok👍🏽 done", ["ok", "👍", "🏽", "done"]),
        ("A", ["a"]),
        ("the answer", ["answer"]),
        ("iPhone东京15", ["iphone", "东", "京", "15"]),
        ("?!", []),
    ],
)
def test_words_of_any_script(text: str, found: list[str]) -> None:
    assert words(text) == found


def test_other_scripts_are_scored_where_the_reference_sees_nothing() -> None:
    assert RougeScorer(["rougeL"]).score("東京", "東京")["rougeL"].fmeasure == 0
    assert rouge_l("東京は大きい", "東京は小さい") == pytest.approx(8 / 12)
    assert rouge_words("नमस्ते é x") == ["नमस्ते", "x"], "an accented letter separates, as in theirs"
    assert token_f1("東京は大きい", "東京は小さい") == pytest.approx(8 / 12)
    assert token_f1("Cafe\u0301", "café") == 1
    assert token_f1("!", "!") == 1 and token_f1("!", "?") == 0 and token_f1("", "x") == 0


@pytest.mark.parametrize(
    ("given", "expected", "score"),
    [
        ("It is Paris, of course", "Paris.", 1),
        ("I know", "no", 0),
        ("The answer is 15.", "15", 1),
        ("1.5", "5", 0),
        ("15", "1.5", 0),
        ("-5", "5", 0),
        ("from 2-5", "5", 1),
        ("5, then", "5", 1),
        ("5,000", "5", 0),
        ("答えは東京です", "東京", 1),
        ("use C++ here", "C++", 1),
        ("refund\n  now", "Refund now", 1),
        ("", "x", 0),
        ("???", "?", 1),
    ],
)
def test_contains_finds_whole_words(given: str, expected: str, score: float) -> None:
    assert contains(given, expected) == score


def test_longest_common_subsequence() -> None:
    assert longest_common("ABCBDAB", "BDCABA") == 4
    assert longest_common("", "x") == 0
    assert longest_common("x" * 700, "x" * 500) == 500
