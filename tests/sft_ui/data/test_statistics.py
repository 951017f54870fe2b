"""Roles, turns, lengths and languages as small charts."""

import numpy as np
import pytest

from sft_ui.data.statistics import share, statistics_cards
from trainer_backend.data.checks.statistics import Lengths, Statistics


def statistics(**changed):
    lengths = Lengths.of(np.array([5, 15, 15, 30_000]))
    known = {
        "rows": 4,
        "messages": 10,
        "roles": {"user": 5, "assistant": 5},
        "turns": {"1": 3, "2": 1},
        "prompt_languages": {"German": 4},
        "answer_languages": {"English": 3, "unknown": 1},
        "answers": lengths,
    }
    return Statistics(**{**known, **changed})


def test_every_known_statistic_is_drawn():
    html = statistics_cards(statistics())
    for said in ("10 messages", "user", "2 answers", "English", "not clear", "Prompts: 4 German."):
        assert said in html
    assert "1 to 9 characters: 1" in html and html.count("<rect") == 12
    assert "<span>1</span><span>30,000 characters</span>" in html


def test_uninformative_charts_are_not_drawn():
    html = statistics_cards(statistics(turns={"1": 4}, answer_languages={"unknown": 4}))
    assert "Every row has 1 answer." in html and "Languages" not in html
    assert "Answers per conversation" not in html
    assert statistics_cards(None) == "" and statistics_cards(Statistics()) == ""


def test_languages_are_counted_and_a_minority_is_never_called_most():
    prompts = {"English": 236, "German": 66, "unknown": 1_009}
    html = statistics_cards(statistics(prompt_languages=prompts))
    assert "Prompts: 236 English, 66 German, 1,009 not clear." in html and "Most" not in html


def test_long_conversations_and_many_languages_are_joined():
    turns = {str(n): 2 for n in range(1, 31)}
    languages = {f"Language {n}": 20 - n for n in range(15)}
    html = statistics_cards(statistics(turns=turns, answer_languages=languages))
    assert "8 or more" in html and "other or not clear" in html and "Language 9" not in html


@pytest.mark.parametrize(
    "count, total, said",
    [
        (1, 1_000, "under 1%"),
        (999, 1_000, "over 99%"),
        (0, 9, "0%"),
        (9, 9, "100%"),
        (0, 0, "0%"),
    ],
)
def test_a_share_is_never_rounded_to_nothing_or_all(count, total, said):
    assert share(count, total) == said
