"""An evaluation asks as training did: system text, tools, pictures, thinking."""

import pytest
from closing_templates import ANSWER, TOOLS_SHOWN, USER, call, with_tokens

from trainer_backend.evaluation.engine.questions import question, ready_questions
from trainer_backend.models.loaded.answer_parts import Answer
from trainer_backend.models.loaded.asking import AskedWith, build_prompt, without_pictures
from trainer_backend.tokens.encode import encode

TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]
ASKS = call("look_up", city="Paris", days=3)
SYSTEM = {"role": "system", "content": "Be brief."}
TOOL = {"role": "tool", "content": "sunny", "name": "look_up", "tool_call_id": "abcdefghi"}
ROWS = {
    "plain": {"messages": [USER, ANSWER]},
    "system text": {"messages": [SYSTEM, USER, ANSWER]},
    "tools": {"messages": [USER, ASKS], "tools": TOOLS},
    "a tool's result": {"messages": [SYSTEM, USER, ASKS, TOOL, ANSWER], "tools": TOOLS},
    "template arguments": {"messages": [USER, ANSWER], "chat_template_kwargs": {"mood": "fine"}},
}
TEMPLATE = "{{ mood }}" + TOOLS_SHOWN


@pytest.mark.parametrize("kind", ROWS)
def test_what_is_asked_is_the_beginning_of_what_was_trained(tokenizer, kind):
    with_tokens(tokenizer, TEMPLATE)
    row, asked = ROWS[kind], question(ROWS[kind])
    assert asked is not None
    prompt = build_prompt(asked.messages, tokenizer, asked.asked)
    trained = encode(row, tokenizer, assistant_only_loss=True, last_turn_only=True)
    context = [label for label in trained.labels if label != -100]
    assert prompt.ids == trained.input_ids[: len(trained.input_ids) - len(context) - 1]
    assert trained.input_ids[len(prompt.ids)] == context[0]


def test_the_thinking_switch_of_the_run_is_asked_with(tokenizer):
    with_tokens(tokenizer, "{{ 'quiet' if enable_thinking is false else 'loud' }}" + TOOLS_SHOWN)
    said = {
        mode: tokenizer.decode(build_prompt([USER], tokenizer, AskedWith(thinking=mode)).ids)[:4]
        for mode in ("auto", "on", "off")
    }
    assert said == {"auto": "loud", "on": "loud", "off": "quie"}


def test_the_question_is_the_last_trained_answer():
    untrained = {**ANSWER, "train": False}
    asked = question({"messages": [USER, ANSWER, USER, untrained]})
    assert asked is not None and asked.messages == [USER] and asked.answer == ANSWER
    assert question({"messages": [USER, untrained]}) is None
    assert question({"messages": [USER, {"role": "assistant", "content": " "}]}) is None
    assert question({"messages": [ANSWER]}) is None and question({"text": "a"}) is None


def test_reasoning_is_no_part_of_what_is_expected():
    for answer in (
        {"role": "assistant", "content": "<think>Hm.</think>\n\nParis."},
        {"role": "assistant", "content": "Paris.", "reasoning_content": "Hm."},
    ):
        asked = question({"messages": [USER, answer]})
        assert asked is not None and asked.expected == Answer("Paris.", "Hm.")


def test_rows_that_cannot_be_asked_are_named_with_the_reason(tokenizer, dataset):
    seen = {**ROWS["plain"], "images": ["a.png"]}
    seen["messages"] = [{**USER, "content": "<image>Hi"}, ANSWER]
    rows = {3: ROWS["plain"], 7: seen, 9: {"messages": [USER]}, 11: seen}
    found = [question(row, number=number) for number, row in rows.items()]
    ready, notes = ready_questions(found, list(rows), tokenizer, dataset)
    assert [one.question.row for one in ready] == [3] and ready[0].tokens > 0
    assert notes == [
        "Left out: rows 7 and 11, with images, which this model does not read.",
        "Left out: row 9, without an answer to a message.",
    ]


def test_pictures_become_marks_in_their_messages():
    said = [{**USER, "images": ["a.png", "b.png"]}, {"role": "user", "content": "x <image>",
                                                   "images": ["c.png"]}]  # fmt: skip
    plain, images = without_pictures(said)
    assert images == ["a.png", "b.png", "c.png"]
    assert [one["content"] for one in plain] == ["<image><image>Hi", "x <image>"]
    assert all("images" not in one for one in plain)
