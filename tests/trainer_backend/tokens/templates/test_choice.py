"""The chat template that a recipe names: built-in, an own text, refused in words."""

import pytest
from conftest import build_tokenizer

from trainer_backend.errors import UserError
from trainer_backend.recipe import SETTINGS, Recipe
from trainer_backend.recipe.chat_templates import BUILT_IN
from trainer_backend.tokens.chat_template import render_prompt
from trainer_backend.tokens.encode import encode, prompt_ids
from trainer_backend.tokens.templates.choice import unknown_marks, use_chat_template

OWN = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + eos_token }}{% endfor %}"
TALK = [
    {"role": "user", "content": "One"},
    {"role": "assistant", "content": "Two"},
    {"role": "user", "content": "Three"},
    {"role": "assistant", "content": "Four"},
]
WRITTEN = {
    "chatml": "<|im_start|>user\nOne<|im_end|>\n<|im_start|>assistant\n",
    "llama3": "<|endoftext|><|start_header_id|>user<|end_header_id|>\n\nOne<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "gemma": "<|endoftext|><start_of_turn>user\nOne<end_of_turn>\n<start_of_turn>model\n",
    "mistral": "<|endoftext|>[INST] One [/INST]",
    "phi": "<|user|>\nOne<|end|>\n<|assistant|>\n",
    "zephyr": "<|user|>\nOne<|im_end|>\n<|assistant|>\n",
    "vicuna": "A chat between a curious user and an artificial intelligence assistant. The "
    "assistant gives helpful, detailed, and polite answers to the user's questions. "
    "USER: One ASSISTANT:",
    "alpaca": "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.\n\n### Instruction:\nOne\n\n### Response:\n",
}


def tokenizer_with(choice: str):
    tokenizer = build_tokenizer()
    tokenizer.bos_token = "<|endoftext|>"
    use_chat_template(tokenizer, choice)
    return tokenizer


def test_every_choice_of_the_recipe_is_a_file_or_made_from_the_models_own():
    assert (
        set(BUILT_IN)
        == set(WRITTEN)
        == {*SETTINGS["chat_template"].choices}
        - {
            "model",
            "training",
        }
    )


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_template_writes_its_format_and_its_answers_are_learned(name):
    tokenizer = tokenizer_with(name)
    assert render_prompt(TALK[:1], tokenizer) == WRITTEN[name]
    encoded = encode({"messages": TALK}, tokenizer, max_length=None, assistant_only_loss=True)
    learned = [token for token in encoded.labels if token != -100]
    text = tokenizer.decode(learned)
    assert "Two" in text and "Four" in text and "One" not in text and "Three" not in text
    prompt = prompt_ids(TALK[:1], tokenizer)
    assert encoded.input_ids[: len(prompt)] == prompt


def test_an_own_text_is_used_as_it_is():
    tokenizer = tokenizer_with(OWN)
    assert tokenizer.chat_template == OWN
    assert Recipe.from_dict({"chat_template": OWN}).chat_template == OWN


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("{% for m in messages %}{{ m }}", ("cannot be read", "line 1", "endfor")),
        ("{% if x %}\n{{ x }}\n{% endfor %}", ("cannot be read", "line 3", "endif")),
        ("{{ 'Hello' }}", ("does not write the messages", "Chat template", "Loop over")),
        ("chatlm", ("no chat template “chatlm”", "Chat template", "Use chatml.")),
    ],
)
def test_a_text_that_is_no_template_is_refused_with_its_place(choice, said):
    with pytest.raises(UserError) as caught:
        use_chat_template(build_tokenizer(), choice)
    error = caught.value
    for words, part in zip(said, (error.what, error.where, error.fix), strict=True):
        assert words in part


def test_a_recipe_takes_a_choice_or_a_template_and_nothing_else():
    with pytest.raises(UserError, match="chat_template"):
        Recipe.from_dict({"chat_template": "chatlm"})
    assert SETTINGS["chat_template"].words(OWN) == "your own"


def test_marks_without_a_token_are_named():
    tokenizer = tokenizer_with("llama3")
    marks = unknown_marks(tokenizer.chat_template, tokenizer)
    assert marks == ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    assert unknown_marks(tokenizer_with("chatml").chat_template, tokenizer) == []
