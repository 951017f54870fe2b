"""Assistant spans for templates of many shapes, with and without generation markers."""

# ruff: noqa: E501 - a template reads best as one line

import pytest

from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.assistant_mask import Conversation, assistant_spans, learn_turn_shape

TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello there"},
    {"role": "user", "content": "Hello there"},
    {"role": "assistant", "content": "Hi"},
]
LLAMA3 = (
    "{{ '<|begin|>' }}{% for m in messages %}{{ '<|h|>' + m['role'] + '<|/h|>\n\n' + m['content'] | trim + '<|eot|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|h|>assistant<|/h|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ '<s>' }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + '</s>' }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ '<bos>' }}{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<turn>' + role + '\n' + m['content'] | trim + '<end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>model\n' }}{% endif %}"
)
# the last answer gets an empty thought, earlier ones do not (as reasoning models write them)
REASONING = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ '<|a|>\n' }}"
    "{% if loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m['content'].split('</think>')[-1] | trim }}{{ '<|e|>\n' }}"
    "{% else %}{{ '<|u|>\n' + m['content'] + '<|e|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|a|>\n' }}{% endif %}"
)
# refuses conversations that do not end with the assistant, so that parts cannot be rendered
STRICT = (
    "{% if messages[-1]['role'] != 'assistant' %}{{ raise_exception('no') }}{% endif %}"
    "{% for m in messages %}{{ '#' + m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
)
MARKED = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ '<a>' }}{% generation %}{{ m['content'] + '<e>' }}"
    "{% endgeneration %}{% else %}{{ '<u>' + m['content'] }}{% endif %}{% endfor %}"
)


def spans_of(tokenizer, template: str, messages: list[dict]) -> list[str]:
    tokenizer.chat_template = template
    text, spans = assistant_spans(Conversation(messages, tokenizer, None, {}))
    return [text[start:end] for _, start, end in spans]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (LLAMA3, ["Hello there<|eot|>", "Hi<|eot|>"]),
        (MISTRAL, [" Hello there</s>", " Hi</s>"]),
        (GEMMA, ["Hello there<end>", "Hi<end>"]),
        (REASONING, ["Hello there<|e|>", "<think>\n\n</think>\n\nHi<|e|>"]),
        (STRICT, ["Hello there", "Hi"]),
        (MARKED, ["Hello there<e>", "Hi<e>"]),
    ],
    ids=["llama3", "mistral", "gemma", "reasoning", "strict", "marked"],
)
def test_spans_are_the_answers_and_their_end_of_turn(tokenizer, template, expected):
    assert spans_of(tokenizer, template, TALK) == expected


# asks for an answer with a thought, and drops thoughts from what was answered
ASKS_FOR_THOUGHTS = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|e|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n<think>\n' }}{% endif %}"
)


@pytest.mark.parametrize(("template", "end"), [(ASKS_FOR_THOUGHTS, "<|e|>"), (STRICT, "")])
def test_an_answer_is_not_looked_for_in_its_question(tokenizer, template, end):
    said = ["Yes or no?", "no", "Sure? Answer yes or no", "yes", "What ends a turn?", "a line"]
    roles = ["user", "assistant"] * 3
    talk = [{"role": role, "content": text} for role, text in zip(roles, said, strict=True)]
    assert spans_of(tokenizer, template, talk) == [text + end for text in said[1::2]]
    header = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "assistant"}]
    assert spans_of(tokenizer, ASKS_FOR_THOUGHTS, header) == ["assistant<|e|>"]


def test_a_thought_that_is_asked_for_and_written_is_context(tokenizer):
    """Earlier thoughts are dropped, so that no part of the talk is how the whole text begins."""
    drops = ASKS_FOR_THOUGHTS.replace(
        "m['content'] +",
        "('<think>\n' if m['role'] == 'assistant' and loop.last else '') + m['content'] +",
    )
    assert spans_of(tokenizer, drops, TALK) == ["Hello there<|e|>", "Hi<|e|>"]


def test_markers_on_some_turns_only(tokenizer):
    last = MARKED.replace("'assistant' %}{{ '<a>' }}", "'assistant' and loop.last %}{{ '<a>' }}")
    tokenizer.chat_template = last
    text, spans = assistant_spans(Conversation(TALK, tokenizer, None, {}))
    assert [(i, text[start:end]) for i, start, end in spans] == [(-1, "Hi<e>")]


def test_the_last_turn_may_end_with_another_token(tokenizer):
    """As in gpt-oss: a turn inside a conversation ends with one token, the last with another."""
    talk = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}"
    end = "{{ eos_token if loop.last else '<|endoftext|>' }}{% endfor %}"
    ask = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    found = spans_of(tokenizer, talk + end + ask, TALK)
    assert found == ["Hello there<|endoftext|>", "Hi<|im_end|>"]


def test_an_answer_that_quotes_the_template_is_still_found(tokenizer):
    quoting = [
        {"role": "user", "content": "<|h|>assistant<|/h|>\n\nHi<|eot|>"},
        {"role": "assistant", "content": "Hi"},
    ]
    tokenizer.chat_template = LLAMA3
    text, spans = assistant_spans(Conversation(quoting, tokenizer, None, {}))
    assert [(text[s:e], e) for _, s, e in spans] == [("Hi<|eot|>", len(text))]


def test_thoughts_that_a_template_drops_do_not_matter(tokenizer):
    talk = [TALK[0], {"role": "assistant", "content": "<think>hm</think>Hello"}, *TALK[2:]]
    assert spans_of(tokenizer, REASONING, talk)[0] == "Hello<|e|>"


def test_tool_calls_without_content(tokenizer):
    template = (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% if m['tool_calls'] %}{{ 'CALL ' + m['tool_calls'][0]['name'] }}"
        "{% else %}{{ m['content'] }}{% endif %}{{ '<|e|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    call = {"role": "assistant", "tool_calls": [{"name": "f"}]}
    talk = [
        TALK[0],
        call,
        {"role": "tool", "content": "42"},
        {"role": "assistant", "content": "It is 42"},
    ]
    assert spans_of(tokenizer, template, talk) == ["CALL f<|e|>", "It is 42<|e|>"]


def test_a_template_that_wants_parts_gets_parts(tokenizer):
    parts = (
        "{% for m in messages %}{{ '<' + m['role'] + '>' }}{% for c in m['content'] %}"
        "{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}{{ '<e>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
    )
    assert spans_of(tokenizer, parts, TALK) == ["Hello there<e>", "Hi<e>"]


def test_the_shape_of_a_turn_is_learned(tokenizer):
    tokenizer.chat_template = LLAMA3
    shape = learn_turn_shape(tokenizer)
    assert (shape.opening, shape.closing) == ("<|h|>assistant<|/h|>\n\n", "<|eot|>")


def test_a_template_that_hides_the_answer_is_refused(tokenizer):
    hiding = "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% endfor %}"
    with pytest.raises(TrainingDataError, match="is not in the rendered chat template"):
        spans_of(tokenizer, hiding, TALK)
