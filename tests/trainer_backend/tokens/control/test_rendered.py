"""Texts that are rendered already keep their control tokens, and it is said; others do not."""

import json

import numpy as np
import pytest
from tokenizers import AddedToken

from trainer_backend.data.checks.content import content_findings
from trainer_backend.data.checks.control import (
    READ,
    RENDERED_AS_TEXT,
    RENDERED_OTHER,
    RENDERED_TEXT,
    SPELLED,
)
from trainer_backend.tokens.chat_template import PLAIN_CHAT_TEMPLATE
from trainer_backend.tokens.control.rendered import Rendered, rendered_for
from trainer_backend.tokens.encode import encode, encode_batch

CHATML = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
LLAMA_3 = (
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>"
)
OTHERS = {
    "Llama 3": LLAMA_3,
    "Llama 2 or Mistral": "<s>[INST] Hi [/INST] Hello. </s>",
    "Gemma": "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n",
    "Phi, Zephyr or GLM": "<|user|>\nHi<|end|>\n<|assistant|>\nHello.<|end|>\n",
    "DeepSeek": "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>Hello.<｜end▁of▁sentence｜>",
    "Command": "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi<|END_OF_TURN_TOKEN|>",
    "Harmony (gpt-oss)": "<|start|>user<|message|>Hi<|end|><|start|>assistant<|channel|>final"
    "<|message|>Hello.<|return|>",
    "Granite": "<|start_of_role|>user<|end_of_role|>Hi<|end_of_text|>",
}


def count(row, tokenizer, word: str) -> int:
    return row.input_ids.count(tokenizer.convert_tokens_to_ids(word))


def findings(row) -> list[str]:
    return [kind.code for kind, _ in content_findings(np.array([row.ledger], np.int64))]


@pytest.mark.parametrize("template", ["own", None, PLAIN_CHAT_TEMPLATE])
def test_rendered_text_keeps_its_tokens(tokenizer, template):
    tokenizer.chat_template = tokenizer.chat_template if template == "own" else template
    row = encode({"text": CHATML}, tokenizer)
    assert count(row, tokenizer, "<|im_start|>") == 2 and findings(row) == ["rendered_tokens"]
    assert row.ledger & RENDERED_TEXT and tokenizer.decode(row.input_ids) == CHATML
    ask, answer = CHATML[: CHATML.index("Hello")], "Hello.<|im_end|>\n"
    pair = encode({"prompt": ask, "completion": answer}, tokenizer)
    assert count(pair, tokenizer, "<|im_end|>") == 2 and pair.ledger & RENDERED_TEXT
    learned = tokenizer.decode([x for x in pair.labels if x != -100])
    assert learned == answer


def test_by_the_setting_no_text_or_every_text_has_control_tokens(tokenizer):
    row = encode({"text": CHATML}, tokenizer, control_tokens="text")
    assert count(row, tokenizer, "<|im_end|>") == 1 and row.ledger & RENDERED_AS_TEXT
    assert tokenizer.decode(row.input_ids) == CHATML + "<|im_end|>"
    assert "rendered_messages" in findings(row)
    for text in (CHATML, "a <|im_end|> b"):
        row = encode({"text": text}, tokenizer, control_tokens="tokens")
        assert row.ledger == 0
        whole = text + "<|im_end|>"
        assert row.input_ids == tokenizer(whole)["input_ids"]
    closed = encode({"text": "Paris.<|im_end|>"}, tokenizer, control_tokens="text")
    assert tokenizer.decode(closed.input_ids) == "Paris.<|im_end|><|im_end|>"
    assert count(closed, tokenizer, "<|im_end|>") == 1


def test_a_plain_text_has_control_tokens_at_its_sides_only(tokenizer):
    tokenizer.bos_token = "<|endoftext|>"
    row = encode({"text": "<|endoftext|>a <|im_end|> b <|endoftext|> c<|im_end|>"}, tokenizer)
    assert row.input_ids[0] == tokenizer.bos_token_id
    assert row.input_ids[-1] == tokenizer.eos_token_id
    special = set(tokenizer.all_special_ids)
    assert not special & set(row.input_ids[1:-1]) and row.ledger == SPELLED
    sides = encode({"text": "<|endoftext|>a<|im_end|>"}, tokenizer)
    assert sides.ledger == 0
    pair = {"prompt": "<|endoftext|>a <|im_end|>", "completion": " b <|im_"}
    seam = encode({**pair, "completion": " b"}, tokenizer)
    learned = [x for x in seam.labels if x != -100]
    assert tokenizer.decode(learned) == " b<|im_end|>" and seam.input_ids[0] == 0


def test_a_token_across_prompt_and_completion_is_text(tokenizer):
    row = encode({"prompt": "a<|im_", "completion": "end|> b"}, tokenizer)
    assert count(row, tokenizer, "<|im_end|>") == 1 and row.ledger & SPELLED


@pytest.mark.parametrize("family", OTHERS)
def test_turns_of_another_model_are_plain_text(tokenizer, family):
    text = OTHERS[family]
    assert rendered_for(text, tokenizer) == Rendered(family, False)
    row = encode({"text": f"{text} <|im_start|>"}, tokenizer)
    assert row.ledger == SPELLED | RENDERED_OTHER and count(row, tokenizer, "<|im_start|>") == 0
    assert findings(row) == ["model_tokens", "rendered_other"]
    marks = {word for word in text.replace("<", " <").replace(">", "> ").split() if "<" in word}
    tokenizer.add_tokens([AddedToken(word, special=True) for word in marks])
    assert rendered_for(text, tokenizer) == Rendered(family, True)
    assert encode({"text": text + "!"}, tokenizer).ledger == RENDERED_TEXT


@pytest.mark.parametrize(
    "text",
    [
        "### Instruction:\nHi\n\n### Response:\nHello.",
        "ChatML ends a turn with <|im_end|>.",
        "Human: Hi\n\nAssistant: Hello.",
        "[INST] is a mark of Llama 2.",
    ],
)
def test_other_texts_are_not_rendered(tokenizer, text):
    assert rendered_for(text, tokenizer) is None


def test_rendered_turns_in_a_message_are_text_and_said(tokenizer):
    talk = [{"role": "user", "content": CHATML}, {"role": "assistant", "content": "Yes."}]
    row = encode({"messages": talk}, tokenizer, assistant_only_loss=True)
    assert count(row, tokenizer, "<|im_start|>") == 2
    assert row.ledger & SPELLED and row.ledger & RENDERED_AS_TEXT
    learned = tokenizer.decode([x for x in row.labels if x != -100])
    assert learned == "Yes.<|im_end|>"
    talk[0]["content"] = f"{LLAMA_3} <|im_end|>"
    assert encode({"messages": talk}, tokenizer).ledger & RENDERED_OTHER


def test_a_token_that_the_template_looks_for_is_left_to_it(tokenizer):
    tokenizer.add_tokens([AddedToken("</think>", special=True)])
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
        "{{ m['content'].split('</think>')[-1] }}{{ '<|im_end|>\n' }}{% endfor %}"
    )
    talk = [
        {"role": "user", "content": "a <|im_end|> b"},
        {"role": "assistant", "content": "<think>so</think>Yes."},
    ]
    row = encode({"messages": talk}, tokenizer)
    text = tokenizer.apply_chat_template(talk, tokenize=False)
    assert tokenizer.decode(row.input_ids) == text and "so" not in text
    assert row.ledger & READ and row.ledger & SPELLED
    assert count(row, tokenizer, "<|im_end|>") == 2


def test_every_place_where_a_row_has_text(tokenizer):
    tokenizer.chat_template = (
        "{{ tools | tojson }}{{ note }}{% for m in messages %}{{ '<|im_start|>' + m['role'] }}"
        "{{ m['content'] if m['content'] is string else m['content'] | map(attribute='text') "
        "| join('') }}{{ m['reasoning_content'] }}{{ (m['tool_calls'] or '') | tojson }}"
        "{{ m['name'] }}{{ '<|im_end|>' }}{% endfor %}"
    )
    bad = 'x<|im_end|>"y'
    tool = {"type": "function", "function": {"name": "f", "description": bad}}
    call = {
        "type": "function",
        "id": "abcdefgh1",
        "function": {"name": bad, "arguments": {bad: [bad, {"k": bad}]}},
    }
    parts = [{"type": "text", "text": "<|im_"}, {"type": "text", "text": "end|>"}]
    talk = [
        {"role": "system", "content": bad},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "", "reasoning_content": bad, "tool_calls": [call]},
        {"role": "tool", "content": bad, "name": bad, "tool_call_id": "abcdefgh1"},
    ]
    example = {"messages": talk, "tools": [tool], "chat_template_kwargs": {"note": bad}}
    row = encode(example, tokenizer, lost_content="train_without")
    assert count(row, tokenizer, "<|im_end|>") == len(talk)
    text = tokenizer.apply_chat_template(talk, [tool], tokenize=False, note=bad)
    assert tokenizer.decode(row.input_ids) == text and text.count("<|im_end|>") > 10
    written = {key: json.dumps(value).replace("<", "\\u003c") for key, value in example.items()}
    assert encode(written, tokenizer, lost_content="train_without") == row
    plain = encode_batch([{"messages": talk[:1]}, example], tokenizer, lost_content="train_without")
    assert plain[1] == row
