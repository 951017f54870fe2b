"""Order, filter, pages and the detail of the rows of an evaluation."""

from dataclasses import replace

import pytest
from evaluated import evaluation

from sft_ui.evaluation.rows.correction import correction_of
from sft_ui.evaluation.rows.table import MOST_ROWS, detail_of, page_of, turn_of, view_of


@pytest.fixture
def found(run):
    return evaluation(run)  # exact match of rows 1 to 4: 0→1, 0→0, 1→0, 1→1


def rows(found, **asked):
    return [one["row"] for one in page_of(found, view_of(found, asked))["rows"]]


@pytest.mark.parametrize(
    "asked, order",
    [
        ({}, [3, 2, 4, 1]),  # worst first; of equals, what got worse
        ({"by": "tuned", "falls": True}, [4, 1, 3, 2]),
        ({"by": "row"}, [1, 2, 3, 4]),
        ({"by": "row", "falls": True}, [4, 3, 2, 1]),
        ({"by": "base"}, [2, 1, 3, 4]),
        ({"by": "change"}, [3, 2, 4, 1]),
        ({"by": "nonsense", "measure": "nonsense", "size": "x", "start": -3}, [3, 2, 4, 1]),
        ({"wrong": True}, [3, 2]),
        ({"by": "row", "start": 1, "size": 2}, [2, 3]),
        ({"by": "row", "start": 99}, [1, 2, 3, 4]),
    ],
)
def test_order_filter_and_pages(found, asked, order):
    assert rows(found, **asked) == order


def test_only_what_training_changed_is_shown_on_demand(found):
    same = replace(found.examples[0], tuned=found.examples[0].base)
    found = replace(found, examples=[same, *found.examples[1:]])
    page = page_of(found, view_of(found, {"changed": True, "by": "row"}))
    assert [one["row"] for one in page["rows"]] == [2, 3, 4]
    assert (page["total"], page["of"]) == (3, 4)


def test_a_row_without_the_score_comes_last_and_is_not_wrong(found):
    blank = replace(found.examples[0], scores={})
    found = replace(found, examples=[blank, *found.examples[1:]])
    assert rows(found)[-1] == 1 and 1 not in rows(found, wrong=True)
    page = page_of(found, view_of(found, {"by": "row"}))
    assert page["rows"][0]["scores"] == {"base": None, "tuned": None}


def test_a_page_is_limited(found):
    assert view_of(found, {"size": 10_000}).size == MOST_ROWS


def test_graded_scores_are_numbers_and_checked_ones_are_words(found):
    graded = {"token_f1": {"base": 0.4, "tuned": 0.75}, "exact_match": {"base": 0, "tuned": 1}}
    found = replace(found, examples=[replace(found.examples[0], scores=graded)])
    words = page_of(found, view_of(found, {"measure": "exact_match"}))["rows"][0]["scores"]
    assert words["base"] == {"text": "different", "wrong": True, "graded": False}
    assert words["tuned"] == {"text": "match", "wrong": False, "graded": False}
    numbers = page_of(found, view_of(found, {"measure": "token_f1"}))["rows"][0]["scores"]
    assert numbers["base"] == {"text": "0.40", "wrong": True, "graded": True}
    assert numbers["tuned"] == {"text": "0.75", "wrong": False, "graded": True}


def test_the_detail_has_the_whole_conversation_and_what_a_correction_needs(found, hostile):
    call = {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    messages = [
        {"role": "system", "content": hostile},
        {"role": "user", "content": [{"type": "text", "text": "Look: "}, {"type": "image"}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "Hm."},
        {"role": "tool", "content": "cold"},
    ]
    marks = {"tuned": {"cut": True, "reasoning": "So."}, "prompt": {"images": 2}}
    row = replace(found.examples[0], messages=messages, tools=[{"name": "weather"}], marks=marks)
    detail = detail_of(replace(found, examples=[row]), 0)
    assert [turn["text"] for turn in detail["turns"]] == [hostile, "Look: ", "", "cold"]
    assert detail["turns"][2]["calls"] == [{"name": "weather", "arguments": {"city": "Oslo"}}]
    assert detail["turns"][2]["thought"] == "Hm." and detail["reasoning"]["tuned"] == "So."
    assert detail["marks"]["tuned"] == ["cut at the limit of tokens"]
    assert detail["marks"]["prompt"] == ["with 2 pictures"]
    correction = detail["correction"]
    assert correction["messages"] == messages and correction["answer"] == row.tuned
    assert (correction["row"], correction["place"]) == (row.row, "evaluation")
    other = detail_of(replace(found, examples=[row], held_out=False), 0)["correction"]
    assert "row" not in other  # its number is one of other data


def test_a_row_without_messages_shows_its_prompt(found):
    assert detail_of(found, 0)["turns"] == [
        {"role": "user", "text": "Say 1", "thought": "", "calls": []}
    ]
    assert turn_of({"role": "user"})["text"] == ""


@pytest.mark.parametrize(
    "text, content, calls",
    [
        ('Sure.\nf({"a": 1})\nf({})', "Sure.", [("f", {"a": 1}), ("f", {})]),
        ('f({"a": 1})', "", [("f", {"a": 1})]),
        ('g({"a": 1})', 'g({"a": 1})', []),  # no tool of this row
        ("f({broken})", "f({broken})", []),
    ],
)
def test_the_calls_of_an_answer_are_corrected_as_calls(found, text, content, calls):
    tools = [{"type": "function", "function": {"name": "f"}}]
    correction = correction_of(found, replace(found.examples[0], tuned=text, tools=tools))
    assert correction["answer"] == content
    assert [(one["name"], one["arguments"]) for one in correction["calls"]] == calls
