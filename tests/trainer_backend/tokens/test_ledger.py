"""What a template makes of each kind of content: lost, in part, doubled, not learned, or nothing."""

# ruff: noqa: E501 - a template reads best as one line

import pytest
from conftest import CHATML, build_tokenizer

from trainer_backend.data.checks.content import FATES, KINDS, flag
from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.encode import encode, encode_arrays

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "What is the rate?"}
ARGUMENTS = {"cur": "CHF", "day": 'the "1st"\nof May', "n": 3.0, "nested": {"list": [1, "two"]}}
CALL = {"type": "function", "function": {"name": "get_rate", "arguments": ARGUMENTS}}
CALLS = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": '{"rate": "high"}'}
ANSWER = {"role": "assistant", "content": "It is high."}
THOUGHT = {"role": "assistant", "content": "<think>\nSeven, I guess.\n</think>\n\nIt is 7."}
FIELD = {"role": "assistant", "content": "It is 7.", "reasoning_content": "Seven, I guess."}
SPOKEN = {**CALLS, "content": "Let me look."}
TALK = [USER, CALLS, RESULT, ANSWER]
TOOL = {
    "name": "get_rate",
    "description": 'Gives "rates"',
    "parameters": {
        "type": "object",
        "properties": {"cur": {"type": "string", "description": "a code"}},
    },
}
TOOLS = [{"type": "function", "function": TOOL}]


def chatml(content: str, before: str = "") -> str:
    """ChatML with another expression for the content of a message, `m`."""
    return (
        before
        + "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
        + content
        + "{{ '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )


TEXT = "{{ m['content'] }}"
WITH_CALLS = (
    TEXT
    + "{% for c in m.tool_calls or [] %}{{ '<tool_call>' + (c.function | tojson) + '</tool_call>' }}{% endfor %}"
)
XML_CALLS = TEXT + (
    "{% for c in m.tool_calls or [] %}{{ '<function=' + c.function.name + '>' }}{% for k, v in c.function.arguments.items() %}"
    "{{ '<parameter=' + k + '>' }}{{ v if v is string else v | tojson }}{{ '</parameter>' }}{% endfor %}{% endfor %}"
)
TEXT_CALLS = (
    TEXT
    + "{% for c in m.tool_calls or [] %}{{ {'name': c.function.name, 'arguments': c.function.arguments | tojson} | tojson }}{% endfor %}"
)
NAMES_ONLY = TEXT + "{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}"
CUT_THOUGHT = "{{ m['content'].split('</think>')[-1] }}"
JSON_TOOLS = "{% if tools %}{{ tools | tojson(indent=4) }}{% endif %}"
TOOL_NAMES = "{% if tools %}{% for t in tools %}{{ t.function.name }}{% endfor %}{% endif %}"
CALL_OR_TEXT = "{% if m.tool_calls %}{% for c in m.tool_calls %}{{ c.function | tojson }}{% endfor %}{% else %}{{ m['content'] }}{% endif %}"
TWICE = TEXT + "{% if m['role'] == 'system' %}{{ m['content'] }}{% endif %}"
THOUGHT_FIELD = (
    "{% if m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}"
    + TEXT
)
NO_RESULTS = "{% if m['role'] != 'tool' %}{{ m['content'] }}{% endif %}"
MARKED_TEXT = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ m.reasoning_content or '' }}{% generation %}{{ m['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
)


def flags_of(template: str, messages: list, tools: list | None = None, **options) -> set[str]:
    """The flags of a row, “kind: state”; those that only say what the row has are left out."""
    tokenizer = build_tokenizer(template)
    row = {"messages": messages} | ({"tools": tools} if tools else {})
    options = {"assistant_only_loss": True, "lost_content": "train_without", **options}
    found = encode_arrays([row], tokenizer, **options)[0].ledger
    return {
        f"{kind}: {state}" for kind in KINDS for state in FATES[1:] if found & flag(kind, state)
    }


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(
    "content, before",
    [(WITH_CALLS, JSON_TOOLS), (XML_CALLS, JSON_TOOLS), (TEXT_CALLS, JSON_TOOLS)],
    ids=["json", "xml", "text"],
)
def test_calls_and_tools_in_any_spelling_are_whole(content, before, masked):
    template = chatml(content, before)
    assert flags_of(template, [SYSTEM, *TALK], TOOLS, assistant_only_loss=masked) == set()


@pytest.mark.parametrize(
    "template, messages, tools, expected",
    [
        (CHATML, TALK, TOOLS, {"calls: lost", "tools: lost"}),
        (chatml(WITH_CALLS), TALK, TOOLS, {"tools: lost"}),
        (chatml(WITH_CALLS, TOOL_NAMES), TALK, TOOLS, {"tools: partly"}),
        (chatml(NAMES_ONLY), TALK, None, {"calls: partly"}),
        (chatml(CALL_OR_TEXT), [USER, SPOKEN, RESULT, ANSWER], None, {"answer: partly"}),
        (chatml(CALL_OR_TEXT), [USER, SPOKEN], None, {"answer: lost"}),
        (chatml(NO_RESULTS), TALK, None, {"calls: lost", "results: lost"}),
        (chatml(CUT_THOUGHT), [USER, THOUGHT], None, {"reasoning: lost"}),
        (chatml(CUT_THOUGHT), [USER, THOUGHT, USER, FIELD], None, {"reasoning: lost"}),
        (CHATML, [USER, THOUGHT], None, set()),
        (CHATML, [USER, FIELD], None, {"reasoning: lost"}),
        (chatml(THOUGHT_FIELD), [USER, FIELD], None, set()),
        (chatml(THOUGHT_FIELD), [USER, THOUGHT, USER, FIELD], None, set()),
        (chatml(TWICE), [SYSTEM, USER, ANSWER], None, {"system: doubled"}),
        (MARKED_TEXT, [USER, FIELD], None, {"reasoning: not_learned"}),
    ],
)
def test_what_a_template_omits_changes_or_doubles_is_flagged(template, messages, tools, expected):
    assert flags_of(template, messages, tools) == expected


def test_a_thought_that_a_row_has_twice_is_doubled():
    both = {**THOUGHT, "reasoning_content": "Seven, I guess."}
    assert flags_of(chatml(THOUGHT_FIELD), [USER, both]) == {"reasoning: doubled"}


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "user"}, {"role": "assistant", "content": "assistant"}],
        [USER, {"role": "assistant", "content": USER["content"]}, USER, ANSWER],
        [{"role": "user", "content": " What? \n"}, {"role": "assistant", "content": "\n\nThis. "}],
        [{"role": "user", "content": "s"}, {"role": "assistant", "content": "a"}],
    ],
    ids=["names of roles", "repeated", "outer space", "letters"],
)
@pytest.mark.parametrize("template", [CHATML, chatml("{{ m['content'] | trim }}")])
def test_texts_that_stand_elsewhere_by_chance_are_neither_lost_nor_doubled(template, messages):
    assert flags_of(template, messages) == set()
    assert flags_of(template, messages, assistant_only_loss=False) == set()


def test_answers_in_a_prompt_are_context_and_the_completion_is_learned():
    tokenizer = build_tokenizer()
    row = {"prompt": [USER, ANSWER, USER], "completion": [FIELD]}
    found = encode_arrays([row], tokenizer, lost_content="train_without")[0].ledger
    assert found & flag("answer") and not found & flag("answer", "not_learned")
    assert found & flag("reasoning", "lost")


def test_a_single_row_that_would_teach_an_empty_answer_is_refused(tokenizer):
    with pytest.raises(TrainingDataError, match="does not write this conversation's tool calls"):
        encode({"messages": TALK}, tokenizer, assistant_only_loss=True)
    whole = encode({"messages": TALK}, build_tokenizer(chatml(WITH_CALLS)))
    assert not whole.ledger & flag("calls", "lost")


def test_a_call_that_is_not_written_teaches_no_empty_answer():
    tokenizer = build_tokenizer(chatml(TEXT))
    options = {"assistant_only_loss": True, "lost_content": "train_without"}
    found = encode({"messages": TALK}, tokenizer, **options)
    learned = [token for token in found.labels if token != -100]
    assert tokenizer.decode(learned) == f"{ANSWER['content']}<|im_end|>"
    older = encode({"messages": TALK}, tokenizer, **options, as_written=True)
    assert sum(token != -100 for token in older.labels) == len(learned) + 1
    alone = {"prompt": [USER], "completion": [CALLS]}
    assert encode(alone, tokenizer, lost_content="train_without").num_learned == 0
