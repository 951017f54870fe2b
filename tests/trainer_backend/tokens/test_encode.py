"""encode(): exact ids and labels of every kind of example; the same prompt in training and chat."""

import pytest

from tests.conftest import CHATML, build_tokenizer
from trainer_backend.data.formats.example import as_example
from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.chat_template import (
    PLAIN_CHAT_TEMPLATE,
    ensure_chat_template,
    render_prompt,
)
from trainer_backend.tokens.encode import encode, encode_batch, prompt_ids

TALK = [
    {"role": "user", "content": "Who wrote Hamlet?"},
    {"role": "assistant", "content": "William Shakespeare."},
    {"role": "user", "content": "Thanks"},
    {"role": "assistant", "content": "briefly: <b>é 🙂</b>"},
]


def learned(encoding, tokenizer) -> str:
    return tokenizer.decode(
        [i for i, y in zip(encoding.input_ids, encoding.labels, strict=True) if y != -100]
    )


def test_a_conversation_goes_through_the_template_once(tokenizer):
    encoding = encode({"messages": TALK}, tokenizer)
    whole = tokenizer.apply_chat_template(TALK, tokenize=True, return_dict=True)["input_ids"]
    assert encoding.input_ids == whole
    assert encoding.labels == whole
    assert encoding.length == len(whole)


def test_assistant_only_learns_answers_with_their_end_of_turn(tokenizer):
    encoding = encode({"messages": TALK}, tokenizer, assistant_only_loss=True)
    assert learned(encoding, tokenizer) == (
        "William Shakespeare.<|im_end|>briefly: <b>é 🙂</b><|im_end|>"
    )
    assert all(a in (b, -100) for a, b in zip(encoding.labels, encoding.input_ids, strict=True))
    assert encoding.num_learned == sum(label != -100 for label in encoding.labels)


def test_exact_labels_of_a_prompt_and_completion(tokenizer):
    encoding = encode({"prompt": "Who wrote", "completion": " Hamlet?"}, tokenizer)
    context = tokenizer("Who wrote")["input_ids"]
    answer = tokenizer(" Hamlet?")["input_ids"] + [tokenizer.eos_token_id]
    assert encoding.input_ids == context + answer
    assert encoding.labels == [-100] * len(context) + answer


def test_completion_mask_off_learns_everything(tokenizer):
    example = {"prompt": "Who wrote", "completion": " Hamlet?"}
    encoding = encode(example, tokenizer, completion_only_loss=False)
    assert encoding.labels == encoding.input_ids


def test_a_token_across_the_seam_belongs_to_the_completion(tokenizer):
    merged = tokenizer("is")["input_ids"]
    assert len(merged) == 1
    encoding = encode({"prompt": "i", "completion": "s"}, tokenizer)
    assert encoding.input_ids == [*merged, tokenizer.eos_token_id]
    assert encoding.labels == encoding.input_ids


def test_text_gets_one_end_token(tokenizer):
    once = encode({"text": "Paris."}, tokenizer)
    assert once.input_ids == [*tokenizer("Paris.")["input_ids"], tokenizer.eos_token_id]
    assert encode({"text": "Paris.<|im_end|>"}, tokenizer) == once


def test_no_second_bos(tokenizer):
    from tokenizers.processors import TemplateProcessing

    tokenizer.bos_token = "<|endoftext|>"
    bos = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", bos)]
    )
    assert encode({"text": "Paris."}, tokenizer).input_ids.count(bos) == 1
    assert encode({"text": "<|endoftext|>Paris."}, tokenizer).input_ids.count(bos) == 1
    assert encode({"messages": TALK}, tokenizer).input_ids.count(bos) == 0


def test_token_rows_are_respected(tokenizer):
    assert encode({"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, tokenizer).labels == [
        -100,
        6,
        7,
    ]
    masks = {"input_ids": [5, 6, 7], "completion_mask": [0, 1, 1], "assistant_masks": [1, 1, 0]}
    assert encode(masks, tokenizer).labels == [-100, 6, -100]
    assert encode(masks, tokenizer, completion_only_loss=False).labels == [5, 6, -100]
    with pytest.raises(ValueError, match="3 tokens and labels has 1"):
        encode({"input_ids": [5, 6, 7], "labels": [5]}, tokenizer)


def test_cutting_keeps_either_end_and_remembers_the_length(tokenizer):
    whole = encode({"text": "Paris is the capital of France."}, tokenizer)
    start = encode({"text": "Paris is the capital of France."}, tokenizer, max_length=4)
    end = encode(
        {"text": "Paris is the capital of France."},
        tokenizer,
        max_length=4,
        truncation_mode="keep_end",
    )
    assert (start.input_ids, end.input_ids) == (whole.input_ids[:4], whole.input_ids[-4:])
    assert start.length == whole.length == len(whole.input_ids)


def test_last_turn_only_and_messages_marked_not_to_train(tokenizer):
    last = encode({"messages": TALK}, tokenizer, last_turn_only=True)
    assert learned(last, tokenizer) == "briefly: <b>é 🙂</b><|im_end|>"
    marked = [TALK[0], TALK[1], TALK[2], {**TALK[3], "train": False}]
    assert (
        learned(encode({"messages": marked}, tokenizer), tokenizer)
        == "William Shakespeare.<|im_end|>"
    )
    weighted = [TALK[0], {**TALK[1], "weight": 0}, *TALK[2:]]
    assert (
        learned(encode({"messages": weighted}, tokenizer), tokenizer)
        == "briefly: <b>é 🙂</b><|im_end|>"
    )


def test_completion_and_assistant_masks_both_apply(tokenizer):
    example = {"prompt": TALK[:3], "completion": TALK[3:]}
    encoding = encode(example, tokenizer, assistant_only_loss=True)
    assert learned(encoding, tokenizer) == "briefly: <b>é 🙂</b><|im_end|>"
    plain = encode(example, tokenizer)
    assert learned(plain, tokenizer) == "briefly: <b>é 🙂</b><|im_end|>\n"


def test_json_text_nulls_and_template_arguments(tokenizer):
    import json

    tokenizer.chat_template = (
        "{% if tools %}TOOLS {{ tools | length }}\n{% endif %}{% if loud %}LOUD\n{% endif %}"
        + tokenizer.chat_template
    )
    nulls = [{**message, "tool_calls": None} for message in TALK]
    assert encode({"messages": json.dumps(nulls)}, tokenizer) == encode(
        {"messages": TALK}, tokenizer
    )
    tools = [{"type": "function", "function": {"name": "f", "parameters": None}}]
    for given in (tools, json.dumps(tools)):
        text = tokenizer.decode(encode({"messages": TALK, "tools": given}, tokenizer).input_ids)
        assert text.startswith("TOOLS 1\n")
    default = {"type": "object", "properties": {"x": {"type": "string", "default": None}}}
    seen = build_tokenizer("{% if tools %}{{ tools | tojson }}{% endif %}" + CHATML)
    tools = [{"type": "function", "function": {"name": "f", "parameters": default}}]
    text = seen.decode(encode({"messages": TALK, "tools": tools}, seen).input_ids)
    assert '"default": null' in text
    loud = {"messages": TALK, "chat_template_kwargs": {"loud": True}}
    assert tokenizer.decode(encode(loud, tokenizer).input_ids).startswith("LOUD\n")
    assert render_prompt(TALK[:1], tokenizer, loud=True).startswith("LOUD\n")


@pytest.mark.parametrize("template", [None, PLAIN_CHAT_TEMPLATE])
@pytest.mark.parametrize("turns", [1, 3])
def test_chat_sees_the_prompt_of_training(tokenizer, template, turns):
    tokenizer.chat_template = template or tokenizer.chat_template
    prompt = prompt_ids(TALK[:turns], tokenizer)
    encoding = encode({"messages": TALK[: turns + 1]}, tokenizer, last_turn_only=True)
    assert encoding.input_ids[: len(prompt)] == prompt
    assert set(encoding.labels[: len(prompt)]) == {-100}
    assert encoding.labels[len(prompt)] == encoding.input_ids[len(prompt)]


def test_a_base_model_gets_the_plain_template_once(tokenizer):
    assert not ensure_chat_template(tokenizer)
    tokenizer.chat_template = None
    assert ensure_chat_template(tokenizer)
    system = {"role": "system", "content": "Be brief."}
    text = tokenizer.decode(encode({"messages": [system, *TALK[:2]]}, tokenizer).input_ids)
    assert (
        text == "Be brief.\n\nUser: Who wrote Hamlet?\nAssistant: William Shakespeare.<|im_end|>\n"
    )


def test_a_batch_is_the_same_as_one_by_one(tokenizer):
    examples = [
        {"messages": TALK},
        {"text": "Paris."},
        {"prompt": "Who", "completion": " wrote"},
        {"prompt": TALK[:1], "completion": TALK[1:2]},
        {"input_ids": [4, 5]},
    ]
    assert encode_batch(examples, tokenizer) == [encode(example, tokenizer) for example in examples]


@pytest.mark.parametrize(
    ("example", "options", "message"),
    [
        ({"messages": []}, {}, "no messages"),
        ({"messages": "{broken"}, {}, "not valid JSON"),
        ({"messages": TALK[:1]}, {"assistant_only_loss": True}, "no assistant message"),
        ({"text": "Paris."}, {"assistant_only_loss": True}, "plain text"),
        ({"prompt": "a", "completion": "b"}, {"assistant_only_loss": True}, "plain text"),
    ],
)
def test_bad_examples_are_refused_in_words(tokenizer, example, options, message):
    with pytest.raises(TrainingDataError, match=message) as caught:
        encode_batch([{"text": "fine"}] * (not options) + [example], tokenizer, **options)
    assert caught.value.what and caught.value.where and caught.value.fix
    assert isinstance(caught.value, ValueError)


def test_a_template_that_raises_names_the_row(tokenizer):
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(TrainingDataError, match="roles must alternate") as caught:
        encode_batch([{"text": "fine"}, {"messages": TALK}], tokenizer)
    assert caught.value.index == 1


def test_without_a_template_messages_are_refused(tokenizer):
    tokenizer.chat_template = None
    with pytest.raises(TrainingDataError, match="no chat template"):
        encode({"messages": TALK}, tokenizer)


def test_nulls_in_arguments_are_learned_unless_a_table_filled_them():
    seen = build_tokenizer(
        "{% for m in messages %}{{ m['content'] or '' }}"
        "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}"
        "{{ eos_token }}{% endfor %}"
    )
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": None}}}
    written = [TALK[0], {"role": "assistant", "content": "", "tool_calls": [call]}]
    filled = [{**TALK[0], "tool_calls": None}, written[1]]
    for messages, text in ((written, '"arguments": {"x": null}'), (filled, '"arguments": {}')):
        for read in ({"messages": messages}, as_example({"messages": messages})):
            assert text in seen.decode(encode(read, seen).input_ids)


def test_what_is_marked_is_not_learned_whatever_the_mark(tokenizer):
    for mark in ({"loss": False}, {"loss_weight": 0}, {"train_on_turn": False}, {"masked": True}):
        talk = [TALK[0], {"role": "assistant", "content": "bad", **mark}, *TALK[:2]]
        for read in ({"messages": talk}, as_example({"messages": talk})):
            text = learned(encode(read, tokenizer, assistant_only_loss=True), tokenizer)
            assert "bad" not in text and text
