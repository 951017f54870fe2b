"""JSON, labels and calls: what one answer scores against the expected one."""

import numpy as np
import pytest

from trainer_backend.evaluation.measures import MEASURE_MEANS, MEASURES, score_answer
from trainer_backend.evaluation.measures.labels import label_of, macro_f1
from trainer_backend.evaluation.results import LOSSES
from trainer_backend.models.loaded.answer_parts import Answer

CALL = {"name": "weather", "arguments": {"city": "Paris", "days": 3}}


def score(name: str, given: str, expected: str, labels: tuple[str, ...] = ()) -> float | None:
    return score_answer(name, Answer(given), Answer(expected), labels)


@pytest.mark.parametrize(
    ("given", "expected", "right"),
    [
        ('{"b": 2, "a": 1}', '{"a": 1.0, "b": 2}', 1),
        ('{"a": 1}', '{"a": 1, "b": 2}', 1 / 2),
        ('{"a": 1, "b": 2, "c": 3}', '{"a": 1, "b": 2}', 2 / 3),
        ('{"a": {"b": 1, "c": [2, 3]}}', '{"a": {"b": 1, "c": [2, 4]}}', 2 / 3),
        ('{"a": [2, 1]}', '{"a": [1, 2]}', 0),
        ('{"a": true}', '{"a": 1}', 0),
        ('{"a": "1"}', '{"a": 1}', 0),
        ('{"a": null}', '{"a": null}', 1),
        ('{"a": {}}', '{"a": {}}', 1),
        ('{"a": 5}', '{"a": {"b": 1}}', 0),
        ("{}", "{}", 1),
        ('```json\n{"a": 1}\n```', '{"a": 1}', 1),
        ('Sure: {"a": 1}', '{"a": 1}', 0),
        ("[" * 100_000, '{"a": 1}', 0),
        ('{"a": NaN}', '{"a": 1}', 0),
        ("[1, 2, 3]", "[1, 2]", 2 / 3),
    ],
)
def test_json_fields(given: str, expected: str, right: float) -> None:
    assert score("json_fields", given, expected) == pytest.approx(right)


def test_json_valid_is_what_a_program_can_read() -> None:
    for given, right in (('{"a": 1}', 1), ("[]", 1), ("5", 0), ('{"a": 1,}', 0), ("", 0)):
        assert score("json_valid", given, "{}") == right
    assert score("json_valid", '```json\n{"a": 1}\n```', "{}") == 0
    assert score("json_valid", "{}", "Hello") is None, "nothing to say about a row of text"
    assert score("json_fields", "{}", "5") is None


def test_labels_are_read_whatever_their_case_and_full_stop() -> None:
    labels = ("Refund", "Bug report")
    assert [label_of(text, labels) for text in ("refund.", " bug  report", "A refund", "")] == [
        *labels,
        None,
        None,
    ]
    assert label_of("a", ("A", "a")) == "a" and label_of("a.", ("A", "a")) is None
    assert score("label_f1", "REFUND", "Refund", labels) == 1
    assert score("label_f1", "refund", "something else", labels) is None
    assert score_answer("label_f1", Answer("Refund", calls=[CALL]), Answer("Refund"), labels) == 0


def test_macro_f1_counts_rare_labels_as_much() -> None:
    right = np.array([0, 0, 0, 0, 1, 2])
    given = np.array([0, 0, 0, 1, 1, -1])
    # F1: 6/7 for label 0, 2/3 for label 1, 0 for label 2
    assert macro_f1(right, given, np.ones((1, 6)) / 6)[0] == pytest.approx((6 / 7 + 2 / 3) / 3)
    only_first = np.array([[1, 1, 1, 0, 0, 0]]) / 3
    assert macro_f1(right, given, only_first)[0] == 1, "labels that a sample lacks are left out"


def test_calls_are_compared_as_objects() -> None:
    turned = {"name": "weather", "arguments": {"days": 3.0, "city": "Paris"}}
    wrong = {"name": "weather", "arguments": {"city": "Rome", "days": 3}}
    expected = Answer("", calls=[CALL])
    for given, right in (([turned], 1), ([wrong], 0), ([CALL, CALL], 0), ([], 0)):
        assert score_answer("tool_call_match", Answer("Sure.", calls=given), expected) == right
    assert score_answer("tool_call_match", Answer("Hi"), Answer("Hello")) == 1, "no call, rightly"
    assert score_answer("tool_call_match", Answer("", calls=[CALL]), Answer("Hello")) == 0
    assert score_answer("exact_match", Answer("", calls=[turned]), expected) == 1
    assert score_answer("chrf", Answer("weather"), expected) is None, "no text is expected"


def test_exact_match_sees_what_a_reader_sees() -> None:
    assert score("exact_match", " Cafe\u0301\r\nnoir\n", "Café\nnoir") == 1
    assert score("exact_match", "café noir", "Café noir") == 0
    assert score_answer("exact_match", Answer("x", "thought"), Answer("x", "other")) == 1


def test_every_measure_has_a_meaning_and_an_unknown_one_is_refused() -> None:
    assert set(MEASURE_MEANS) == {*MEASURES, *LOSSES} and len(MEASURES) == 9
    for name in MEASURES:
        assert score(name, '{"a": 1}', '{"a": 1}') == 1
    with pytest.raises(KeyError):
        score("bleu", "a", "a")
