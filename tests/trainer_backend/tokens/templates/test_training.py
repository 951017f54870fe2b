"""Training templates: built on the model's own, recognised, refused in words."""

import pytest
from chat_table import tokenizer_of

from trainer_backend.errors import UserError
from trainer_backend.models.loaded.load import load_tokenizer
from trainer_backend.tokens.chat_template import PLAIN_CHAT_TEMPLATE, render_prompt
from trainer_backend.tokens.encode import encode, prompt_ids
from trainer_backend.tokens.templates.choice import use_chat_template
from trainer_backend.tokens.templates.training import (
    family_of,
    is_training_template,
    training_template,
)

CALL = {"type": "function", "function": {"name": "f", "arguments": {"a": None}}}
ASK, REPLY = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}


def test_the_family_is_found_by_its_marks():
    assert family_of("[INST]", frozenset({"[TOOL_CALLS]"})) == "mistral"
    assert family_of("[INST]", frozenset()) == "hermes"
    assert family_of("<|start_header_id|>", frozenset()) == "llama"
    assert family_of("[gMASK]<sop>", frozenset({"<|observation|>"})) == "glm"
    assert family_of("<|im_start|>", frozenset({"[TOOL_CALLS]"})) == "hermes"


def test_a_template_is_made_once(tokenizer):
    use_chat_template(tokenizer, "model")
    assert not is_training_template(tokenizer.chat_template)
    use_chat_template(tokenizer, "training")
    made = tokenizer.chat_template
    assert is_training_template(made)
    use_chat_template(tokenizer, "training")
    assert tokenizer.chat_template == made


def test_every_turns_reasoning_and_calls_are_learned(tokenizer):
    use_chat_template(tokenizer, "training")
    thinks = {**REPLY, "reasoning_content": "Hm."}
    calls = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    talk = [ASK, thinks, ASK, calls, {"role": "tool", "content": "7"}, thinks]
    row = encode({"messages": talk}, tokenizer, assistant_only_loss=True)
    thought = "<think>\nHm.\n</think>\n\nYo<|im_end|>"
    call = '<tool_call>\n{"name": "f", "arguments": {"a": null}}\n</tool_call><|im_end|>'
    learned = tokenizer.decode([label for label in row.labels if label != -100])
    assert learned == thought + call + thought
    prompt = prompt_ids(talk[:-1], tokenizer)
    assert row.input_ids[: len(prompt)] == prompt and set(row.labels[: len(prompt)]) != {-100}


def test_a_base_model_gets_one_too(tokenizer):
    tokenizer.chat_template = PLAIN_CHAT_TEMPLATE
    before = encode({"messages": [ASK, REPLY]}, tokenizer, assistant_only_loss=True)
    use_chat_template(tokenizer, "training")
    assert encode({"messages": [ASK, REPLY]}, tokenizer, assistant_only_loss=True) == before


def test_a_model_without_one_is_refused_in_words():
    tokenizer = tokenizer_of("gpt-oss")
    with pytest.raises(UserError, match="no training template") as caught:
        use_chat_template(tokenizer, "training", "my-model")
    assert caught.value.where == "my-model" and "“Chat template”" in caught.value.fix
    tokenizer.chat_template = "{% for m in messages %}{{ m.content[::-1] }}{% endfor %}"
    assert training_template(tokenizer) is None


@pytest.mark.parametrize("thinking", ["auto", "on", "off"])
def test_the_thinking_switch_stays(thinking):
    tokenizer = tokenizer_of("qwen3")
    given = {} if thinking == "auto" else {"enable_thinking": thinking == "on"}
    prompt = render_prompt([ASK], tokenizer, **given)
    use_chat_template(tokenizer, "training")
    assert render_prompt([ASK], tokenizer, **given) == prompt
    assert prompt.endswith("</think>\n\n") == (thinking == "off")
    row = encode({"messages": [ASK, REPLY]}, tokenizer, thinking=thinking, assistant_only_loss=True)
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert row.input_ids[: len(ids)] == ids and row.labels[: len(ids)] == [-100] * len(ids)


def test_todays_date_stays_a_date():
    tokenizer = tokenizer_of("llama3.2")
    use_chat_template(tokenizer, "training")
    row = encode({"messages": [ASK, REPLY]}, tokenizer, template_date="2024-07-26")
    assert "Today Date: 26 Jul 2024" in tokenizer.decode(row.input_ids)


def test_an_image_keeps_its_place():
    tokenizer = tokenizer_of("qwen2.5-vl")
    parts = [{"type": "text", "text": "See "}, {"type": "image"}]
    talk = [{"role": "user", "content": parts}, REPLY]
    own = render_prompt(talk[:1], tokenizer)
    use_chat_template(tokenizer, "training")
    assert render_prompt(talk[:1], tokenizer) == own
    assert "<|image_pad|>" in own


def test_the_starters_plain_talk_stays_as_it_was(starter_model):
    own = load_tokenizer(starter_model)
    made = load_tokenizer(starter_model, "training")
    system = {"role": "system", "content": "Be brief."}
    for talk in ([ASK, REPLY], [system, ASK, REPLY, ASK, REPLY], [ASK, REPLY, system, ASK, REPLY]):
        assert render_prompt(talk[:-1], made) == render_prompt(talk[:-1], own)
        one, other = (
            encode({"messages": talk}, tokenizer, assistant_only_loss=True)
            for tokenizer in (made, own)
        )
        assert (one.input_ids, one.labels) == (other.input_ids, other.labels)
