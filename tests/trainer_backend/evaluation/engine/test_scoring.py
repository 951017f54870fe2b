"""What counts as the expected answer: calls as calls, no reasoning, as the template writes it."""

import pytest
from closing_templates import ANSWER, TOOLS_SHOWN, USER, call, with_tokens

from trainer_backend.evaluation.engine.losses import GroupLoss
from trainer_backend.evaluation.engine.questions import question, ready_questions
from trainer_backend.evaluation.engine.scoring import scored
from trainer_backend.evaluation.measures import Learning

TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]
ASKS = {"messages": [USER, call("look_up", city="Paris", days=3)], "tools": TOOLS}
HERMES = '<tool_call>\n{"name": "look_up", "arguments": {"days": 3, "city": "Paris"}}\n</tool_call>'


def compared(tokenizer, dataset, rows, tuned, base="", losses=None, wanted=()):
    """The result where the models say the given texts to every row."""
    found = [question(row, number=at) for at, row in enumerate(rows)]
    ready, _ = ready_questions(found, range(len(rows)), tokenizer, dataset)
    answers = {
        which: [one.prompt.read(text) for one in ready]
        for which, text in (("base", base), ("tuned", tuned))
    }
    return scored(ready, answers, losses or {}, wanted, Learning())


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
def test_a_call_is_right_when_it_calls_the_same(tokenizer, dataset, text, right):
    with_tokens(tokenizer, TOOLS_SHOWN)
    found = compared(tokenizer, dataset, [ASKS], text)
    (row,) = found.rows
    assert found.main == "tool_call_match" and found.right == {"base": 0.0, "tuned": float(right)}
    assert row.scores["tool_call_match"] == {"base": 0.0, "tuned": float(right)}
    assert row.expected == 'look_up({"city": "Paris", "days": 3})' and row.tools == TOOLS


def test_reasoning_is_shown_and_does_not_count(tokenizer, dataset):
    row = {"messages": [USER, {**ANSWER, "content": "<think>Hm.</think>Paris."}]}
    found = compared(tokenizer, dataset, [row], "<think>Well.</think>\n\nParis.")
    (one,) = found.rows
    assert found.right["tuned"] == 1.0 and one.tuned == one.expected == "Paris."
    assert one.marks == {"expected": {"reasoning": "Hm."}, "tuned": {"reasoning": "Well."}}


def test_a_template_with_calls_of_its_own_form_compares_texts(tokenizer, dataset):
    own = TOOLS_SHOWN.replace(
        "'<tool_call>\n' + c.function | tojson + '\n</tool_call>'",
        "'CALL ' + c.function.name + ' WITH ' + c.function.arguments.city",
    )
    with_tokens(tokenizer, own)
    found = compared(tokenizer, dataset, [ASKS], "CALL look_up WITH Paris", "CALL look_up")
    assert found.right == {"base": 0.0, "tuned": 1.0}


def test_a_tools_result_is_shown_as_such(tokenizer, dataset):
    result = {"role": "tool", "content": "sunny", "name": "look_up", "tool_call_id": "abcdefghi"}
    with_tokens(tokenizer, TOOLS_SHOWN)
    rows = [{**ASKS, "messages": [*ASKS["messages"], result, ANSWER]}]
    (one,) = compared(tokenizer, dataset, rows, "Paris.").rows
    assert one.prompt == "Tool result: sunny" and one.messages[-1] == result


def test_loss_and_perplexity_are_sums_over_all_tokens(tokenizer, dataset):
    losses = {
        "base": [GroupLoss(4.0, 2), GroupLoss(2.0, 4)],
        "tuned": [GroupLoss(1.0, 2), GroupLoss(2.0, 4)],
    }
    found = compared(tokenizer, dataset, [], "", losses=losses)
    loss = found.metrics["loss"]
    assert (loss.base, loss.tuned, loss.rows, loss.better) == (1.0, 0.5, 2, "lower")
    assert found.metrics["perplexity"].tuned == pytest.approx(1.6487212707)
    assert found.main == "loss" and not found.rows and not found.right


def test_shuffled_answers_do_not_come_out_better(tokenizer, dataset):
    """A model that learned the form of the answers, and not which belongs to which prompt."""
    words = ["red", "blue", "green", "grey", "pink", "gold", "black", "white"]
    rows = [
        {"messages": [{**USER, "content": f"What is {at}?"}, {**ANSWER, "content": f"It is {w}."}]}
        for at, w in enumerate(words)
    ]
    found = [question(row, number=at) for at, row in enumerate(rows)]
    ready, _ = ready_questions(found, range(len(rows)), tokenizer, dataset)
    turned = [*words[3:], *words[:3]]
    answers = {
        "base": [one.prompt.read("I do not know that.") for one in ready],
        "tuned": [
            one.prompt.read(f"It is {word}.") for one, word in zip(ready, turned, strict=True)
        ],
    }
    for wanted in ((), ("token_f1", "chrf")):
        assert scored(ready, answers, {}, wanted, Learning()).verdict.verdict != "better"
    told = {**answers, "tuned": [one.prompt.read(f"It is {w}.") for one, w in zip(ready, words, strict=True)]}  # fmt: skip  # noqa: E501
    assert scored(ready, told, {}, (), Learning()).verdict.verdict == "better"
