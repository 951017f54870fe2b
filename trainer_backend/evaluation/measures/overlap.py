"""Measures of how much of the expected text an answer holds, from 0 to 1.

Texts alone: knows no answer with calls and chooses nothing.
"""

import re
from collections import Counter
from collections.abc import Sequence

from sacrebleu.metrics.chrf import CHRF

from trainer_backend.evaluation.measures.words import (
    folded,
    plain,
    rouge_words,
    without_edges,
    words,
)

_CHRF = CHRF()


def contains(given: str, expected: str) -> float:
    """1 if the expected text stands in the given one as whole words, else 0.

    Case, white space and punctuation around the expected text do not count. A number must stand by
    itself: 5 is not found in 1.5, 15 or -5.
    """
    wanted = folded(without_edges(plain(expected)))
    before = after = ""
    if wanted[0].isalnum() and _spaced(wanted[0]):
        before = r"(?<![^\W_])"
    if wanted[-1].isalnum() and _spaced(wanted[-1]):
        after = r"(?![^\W_])"
    if wanted[0].isdigit():
        before += r"(?<!\d[.,])(?<!^[-−])(?<!\s[-−])"
    if wanted[-1].isdigit():
        after += r"(?![.,]\d)"
    return float(re.search(before + re.escape(wanted) + after, folded(given)) is not None)


def token_f1(given: str, expected: str) -> float:
    """F1 of the words that two texts share, each counted as often as it stands in both.

    The measure of SQuAD (Rajpurkar et al. 2016); `words` says what a word is in other scripts.
    Texts without any word are right only if they are the same.
    """
    return (
        words_f1(Counter(words(given)), Counter(words(expected)))
        if (words(given) or words(expected))
        else float(plain(given) == plain(expected))
    )


def words_f1(given: Counter[str], expected: Counter[str]) -> float:
    """F1 of two counted bags of words; 0 if one of them is empty."""
    small, large = sorted((given, expected), key=len)
    shared = sum(min(count, large[word]) for word, count in small.items())
    return 2 * shared / (given.total() + expected.total()) if shared else 0.0


def chrf(given: str, expected: str) -> float:
    """chrF2 of a sentence as sacrebleu computes it, over 100 (Popović 2015, W15-3049)."""
    return float(_CHRF.sentence_score(given, [expected]).score) / 100


def rouge_l(given: str, expected: str) -> float:
    """F1 of the longest common subsequence of words (Lin 2004, W04-1013).

    The fmeasure of rougeL in rouge-score without a stemmer; `rouge_words` says what is a word in
    scripts other than Latin.
    """
    ours, theirs = rouge_words(given), rouge_words(expected)
    common = longest_common(ours, theirs)
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0


def longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence, by bits in parallel (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for at, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << at
    whole = (1 << len(first)) - 1
    open_ = whole
    for word in second:
        here = open_ & places.get(word, 0)
        open_ = ((open_ + here) | (open_ - here)) & whole
    return len(first) - open_.bit_count()


def _spaced(char: str) -> bool:
    """Whether words of this character's script stand apart from one another."""
    return len(words(char + char)) == 1
