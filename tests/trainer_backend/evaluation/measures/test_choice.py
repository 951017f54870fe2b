"""Which measures fit which expected answers, and what is said about it."""

import pytest

from trainer_backend.evaluation.measures import choose_measures
from trainer_backend.models.loaded.answer_parts import Answer

LONG = "Thank you for writing. Your parcel left our store today and will be with you on Monday."
CALL = Answer("", calls=[{"name": "weather", "arguments": {}}])


def texts(*found: str) -> list[Answer]:
    return [Answer(text) for text in found]


@pytest.mark.parametrize(
    ("expected", "names"),
    [
        (texts(*['{"a": 1}'] * 9), ("json_fields", "json_valid", "exact_match")),
        (texts(*("yes", "no.", "No") * 6), ("label_f1", "exact_match")),
        (texts(*map(str, range(16))), ("exact_match", "contains", "token_f1")),
        (texts(*["always this"] * 16), ("exact_match", "contains", "token_f1")),
        (texts(*[LONG] * 3), ("token_f1", "chrf", "rouge_l")),
        ([CALL] * 3, ("tool_call_match", "exact_match")),
        ([], ("token_f1", "chrf", "rouge_l")),
    ],
)
def test_measures_that_fit(expected: list[Answer], names: tuple[str, ...]) -> None:
    found = choose_measures(expected)
    assert found.names == names and found.main == names[0]


def test_the_sentence_says_what_and_why() -> None:
    assert choose_measures(texts(*["cat", "dog"] * 8)).why == (
        "All expected answers are 2 different labels: Label F1 and Exact match. "
        "The verdict follows Label F1."
    )
    assert choose_measures(texts(*["cat", "Dog"] * 8)).labels == ("cat", "Dog")


def test_mixed_rows_bring_the_measures_of_every_large_kind() -> None:
    mixed = choose_measures([CALL] * 12 + texts(*[LONG] * 7, '{"a": 1}'))
    assert mixed.names == ("tool_call_match", "exact_match", "token_f1", "chrf", "rouge_l")
    assert mixed.why.startswith(
        "Of the expected answers 12 of 20 are calls of tools, 7 of 20 are longer texts "
        "and 1 of 20 are JSON: "
    )


def test_wanted_measures_and_the_one_that_the_verdict_follows() -> None:
    jsons = texts(*['{"a": 1}'] * 4)
    assert choose_measures(jsons, ["chrf", "json_fields"]).main == "json_fields"
    found = choose_measures(jsons, ["rouge_l", "chrf"])
    assert (found.names, found.main) == (("chrf", "rouge_l"), "chrf")
    assert found.why == "chrF and ROUGE-L as chosen. The verdict follows chrF."
    with pytest.raises(KeyError):
        choose_measures(jsons, ["bleu"])
