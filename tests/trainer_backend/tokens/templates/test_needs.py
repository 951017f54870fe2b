"""What templates of many kinds want, and conversations in that form."""

# ruff: noqa: E501 - a template reads best as one line

import json

import pytest

from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.encode import encode, prompt_ids
from trainer_backend.tokens.templates.arrange import fold_system, suit_calls
from trainer_backend.tokens.templates.needs import Needs, needs_of

CALL = {"type": "function", "function": {"name": "rate", "arguments": {"cur": "C", "at": None}}}
TALK = [
    {"role": "user", "content": "Rate?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "7"},
    {"role": "assistant", "content": "It is 7."},
]
START = "{% for m in messages %}{{ '<' + m.role + '>' }}"
END = "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
NINE = (
    START
    + "{% if m.tool_calls %}{% for c in m.tool_calls %}{% if c.id is not defined or c.id | length != 9 %}{{ raise_exception('Tool call IDs should have length 9!') }}{% endif %}{{ c.function | tojson + c.id }}{% endfor %}"
    "{% elif m.role == 'tool' %}{{ m.content + m.tool_call_id }}{% else %}{{ m.content }}{% endif %}"
    + END
)
TEXT = (
    START
    + "{% if m.content is none %}{% for c in m.tool_calls %}{{ c.function.name + c.function.arguments }}{% endfor %}{% else %}{{ m.content }}{% endif %}"
    + END
)
BARE = (
    START
    + "{% for c in m.tool_calls or [] %}{{ c.name + (c.arguments | tojson) }}{% endfor %}{{ m.content }}"
    + END
)
PRINTED = (
    START
    + "{% for c in m.tool_calls or [] %}{{ c.function.name ~ c.function.arguments }}{% endfor %}{{ m.content }}"
    + END
)
NAMED = (
    START
    + "{% for c in m.tool_calls or [] %}{{ c.function.name ~ (c.function.arguments | tojson) }}{% endfor %}{% if m.role == 'tool' %}{{ m.name + '=' }}{% endif %}{{ m.content }}"
    + END
)
NO_CALLS = START + "{{ m.content }}" + END
GEMMA = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}{{ '<' + m.role + '>' + m.content + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
OPENED = NO_CALLS.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}").replace(
    "{{ '<assistant>' }}", "{{ '<assistant><think>\n' }}"
)


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        (NINE, Needs(ids="nine")),
        (TEXT, Needs(text_arguments=True, beside="null")),
        (BARE, Needs(bare_calls=True)),
        (PRINTED, Needs(text_arguments=True)),
        (NAMED, Needs(names=True)),
        (NO_CALLS, Needs(calls=False)),
        (GEMMA, Needs(calls=False, system=False, later_system=False)),
    ],
    ids=["nine", "text", "bare", "printed", "named", "no calls", "gemma"],
)
def test_what_a_template_wants_is_found_out(tokenizer, template, wanted):
    assert needs_of(template, tokenizer) == wanted


@pytest.mark.parametrize("template", [NINE, TEXT, BARE, PRINTED, NAMED])
def test_calls_are_written_with_every_argument(tokenizer, template):
    tokenizer.chat_template = template
    encoding = encode({"messages": TALK}, tokenizer, assistant_only_loss=True)
    learned = tokenizer.decode([one for one in encoding.labels if one != -100])
    assert "rate" in learned and '"at": null' in learned and "It is 7." in learned
    whole = tokenizer.decode(encoding.input_ids)
    assert "None" not in whole and '\\"' not in whole and "7" in whole
    prompt = prompt_ids(TALK[:3], tokenizer)
    assert encoding.input_ids[: len(prompt)] == prompt


def test_ids_are_made_once_and_kept_in_the_answer_of_the_tool():
    calls = [{**CALL, "id": "call_abc"}, {**CALL, "id": "Ab3dE6gH9"}, CALL]
    answers = [
        {"role": "tool", "content": str(at), "tool_call_id": one}
        for at, one in enumerate(["Ab3dE6gH9", "call_abc"])
    ]
    talk = [TALK[0], {**TALK[1], "tool_calls": calls}, *answers, TALK[2]]
    made = suit_calls(talk, Needs(ids="nine"))
    first, second, third = (call["id"] for call in made[1]["tool_calls"])
    assert second == "Ab3dE6gH9" and len({first, second, third}) == 3
    assert all(len(one) == 9 and one.isalnum() for one in (first, third))
    assert [one["tool_call_id"] for one in made[2:]] == [second, first, third]
    assert suit_calls(talk, Needs(ids="nine")) == made
    assert suit_calls(made, Needs(ids="nine")) == made


def test_arguments_become_text_or_an_object():
    texts = suit_calls(TALK, Needs(text_arguments=True))
    written = texts[1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(written) == {"cur": "C", "at": None}
    assert suit_calls(texts, Needs())[1]["tool_calls"][0]["function"] == CALL["function"]


SYSTEM, USER, ANSWER = (
    {"role": role, "content": text}
    for role, text in (("system", "Be brief."), ("user", "Hi"), ("assistant", "Yo"))
)


def test_system_text_goes_before_the_next_user_message():
    needs = Needs(system=False, later_system=False)
    folded, moved = fold_system([SYSTEM, USER, ANSWER, SYSTEM, USER, ANSWER], needs)
    assert moved == 2 and [one["role"] for one in folded] == ["user", "assistant"] * 2
    assert folded[0]["content"] == folded[2]["content"] == "Be brief.\n\nHi"
    assert fold_system([USER, ANSWER, SYSTEM], needs) == ([USER, ANSWER, SYSTEM], 0)
    assert fold_system([SYSTEM, USER], Needs()) == ([SYSTEM, USER], 0)


def test_a_template_without_system_role_is_given_the_text(tokenizer):
    tokenizer.chat_template = GEMMA
    talk = [SYSTEM, USER, ANSWER]
    row = encode({"messages": talk}, tokenizer, assistant_only_loss=True)
    assert tokenizer.decode(row.input_ids).startswith("<user>Be brief.\n\nHi")
    assert tokenizer.decode([one for one in row.labels if one != -100]) == "Yo<|im_end|>"
    prompt = prompt_ids(talk[:2], tokenizer)
    assert row.input_ids[: len(prompt)] == prompt
    pair = {"prompt": talk[:2], "completion": talk[2:]}
    assert encode(pair, tokenizer) == row


def test_as_written_moves_and_opens_nothing(tokenizer):
    tokenizer.chat_template = GEMMA
    with pytest.raises(TrainingDataError, match="System role not supported"):
        encode({"messages": [SYSTEM, USER, ANSWER]}, tokenizer, as_written=True)
    tokenizer.chat_template = OPENED
    row = encode({"messages": [USER, ANSWER]}, tokenizer, as_written=True)
    assert "<think>" not in tokenizer.decode(row.input_ids)


@pytest.mark.parametrize(
    ("answer", "learned"),
    [
        (ANSWER, "\n</think>\n\nYo<|im_end|>"),
        ({**ANSWER, "content": "<think>\nHm.\n</think>\n\nYo"}, "Hm.\n</think>\n\nYo<|im_end|>"),
        ({**ANSWER, "reasoning_content": "Hm."}, "Hm.\n</think>\n\nYo<|im_end|>"),
    ],
)
def test_the_last_answer_follows_the_thought_that_is_asked_for(tokenizer, answer, learned):
    tokenizer.chat_template = OPENED
    talk = [USER, ANSWER, USER, answer]
    row = encode({"messages": talk}, tokenizer, assistant_only_loss=True, last_turn_only=True)
    prompt = prompt_ids(talk[:3], tokenizer)
    assert row.input_ids[: len(prompt)] == prompt
    assert row.labels[: len(prompt)] == [-100] * len(prompt)
    assert tokenizer.decode(row.input_ids[len(prompt) :]) == learned
    assert row.labels[len(prompt) :] == row.input_ids[len(prompt) :]
    every = encode({"messages": talk}, tokenizer, assistant_only_loss=True)
    assert (
        tokenizer.decode([one for one in every.labels if one != -100]) == "Yo<|im_end|>" + learned
    )


@pytest.mark.parametrize(
    ("template", "messages", "what", "fix"),
    [
        (GEMMA, [USER, USER, ANSWER], "must alternate", "Join"),
        (
            START + "{{ m.content + eos }}{% endfor %}",
            [USER, ANSWER],
            "cannot write",
            "training template",
        ),
        (
            START + "{{ m.missing.name }}{% endfor %}",
            [USER, ANSWER],
            "cannot write",
            "training template",
        ),
    ],
)
def test_a_refusal_says_what_is_missing(tokenizer, template, messages, what, fix):
    tokenizer.chat_template = template
    with pytest.raises(TrainingDataError, match=what) as caught:
        encode({"messages": messages}, tokenizer)
    assert fix in caught.value.fix


def test_a_tokenizer_without_an_end_token_is_named(tokenizer):
    tokenizer.chat_template, tokenizer.eos_token = NO_CALLS, None
    tokenizer.chat_template = tokenizer.chat_template.replace("m.content", "m.content + eos_token")
    with pytest.raises(TrainingDataError, match="no end token") as caught:
        encode({"messages": [USER, ANSWER]}, tokenizer)
    assert "“End token”" in caught.value.fix


def test_the_date_is_that_of_the_run(tokenizer):
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + NO_CALLS
    row = {"messages": [USER, ANSWER]}
    fixed = encode(row, tokenizer, template_date="2024-07-26")
    assert tokenizer.decode(fixed.input_ids).startswith("26 Jul 2024")
    assert encode(row, tokenizer).input_ids != fixed.input_ids
