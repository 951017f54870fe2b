"""The answer check asks as training did: tools, pictures, thinking; calls are compared as calls."""

from contextlib import nullcontext

import pytest
from closing_templates import ANSWER, TOOLS_SHOWN, USER, call, with_tokens

from trainer_backend.models.loaded.answer_parts import Answer
from trainer_backend.models.loaded.asking import AskedWith, build_prompt, without_pictures
from trainer_backend.tokens.encode import encode
from trainer_backend.worker import answers
from trainer_backend.worker.answers import check_answers, question

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
HERMES = '<tool_call>\n{"name": "look_up", "arguments": {"days": 3, "city": "Paris"}}\n</tool_call>'


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


def checked(monkeypatch, tokenizer, model, rows, tuned: str, base: str = "") -> dict:
    """The result of a check in which the models say the given texts."""
    said = iter([tuned, base])
    monkeypatch.setattr(answers, "answer_batch", lambda m, t, p, n: [next(said)] * len(p))
    context = lambda: nullcontext(model)  # noqa: E731
    found = check_answers(rows, tokenizer, model, context, lambda *_: None)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (HERMES, True),
        ("Let me look.\n" + HERMES, True),
        (HERMES.replace("3", "4"), False),
        (HERMES + HERMES, False),
        ("look_up", False),
    ],
)
def test_a_call_is_right_when_it_calls_the_same(monkeypatch, tokenizer, tiny_model, text, right):
    with_tokens(tokenizer, TOOLS_SHOWN)
    found = checked(monkeypatch, tokenizer, tiny_model, [ROWS["tools"]], text)
    (example,) = found["examples"]
    assert found["tuned"] == float(right) and example["tuned_right"] is right
    assert example["expected"] == 'look_up({"city": "Paris", "days": 3})'
    assert found["base"] == 0.0 and example["base_right"] is False


def test_reasoning_is_shown_and_does_not_count(monkeypatch, tokenizer, tiny_model):
    row = {"messages": [USER, {**ANSWER, "content": "<think>Hm.</think>Paris."}]}
    text = "<think>Well.</think>\n\nParis."
    (example,) = checked(monkeypatch, tokenizer, tiny_model, [row], text)["examples"]
    assert example["tuned_right"] and example["tuned"] == "Paris."
    assert (example["tuned_reasoning"], example["expected_reasoning"]) == ("Well.", "Hm.")


def test_a_template_with_calls_of_its_own_form_compares_texts(monkeypatch, tokenizer, tiny_model):
    own = TOOLS_SHOWN.replace(
        "'<tool_call>\n' + c.function | tojson + '\n</tool_call>'",
        "'CALL ' + c.function.name + ' WITH ' + c.function.arguments.city",
    )
    with_tokens(tokenizer, own)
    for text, right in (("CALL look_up WITH Paris", True), ("CALL look_up WITH Rome", False)):
        (example,) = checked(monkeypatch, tokenizer, tiny_model, [ROWS["tools"]], text)["examples"]
        assert example["tuned_right"] is right


def test_a_tools_result_and_pictures_are_shown_as_such(monkeypatch, tokenizer, tiny_model):
    rows = [ROWS["a tool's result"]]
    with_tokens(tokenizer, TOOLS_SHOWN)
    (example,) = checked(monkeypatch, tokenizer, tiny_model, rows, "Paris.")["examples"]
    assert example["prompt"] == "Tool result: sunny" and example["tuned_right"]


def test_pictures_become_marks_in_their_messages():
    said = [{**USER, "images": ["a.png", "b.png"]}, {"role": "user", "content": "x <image>",
                                                   "images": ["c.png"]}]  # fmt: skip
    plain, images = without_pictures(said)
    assert images == ["a.png", "b.png", "c.png"]
    assert [one["content"] for one in plain] == ["<image><image>Hi", "x <image>"]
    assert all("images" not in one for one in plain)
