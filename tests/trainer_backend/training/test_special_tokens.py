"""End, padding and chat tokens: set together for tokenizer and model, saved with checkpoints."""

import pytest
from peft import LoraConfig
from transformers import AutoTokenizer

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.training.special_tokens import apply_chat_template_path, set_special_tokens

JINJA = "{% for m in messages %}{{ '#' + m['role'] + m['content'] + eos_token }}{% endfor %}"


def settings(folder, **more) -> SFTConfig:
    return SFTConfig(
        str(folder), max_steps=1, report_to="none", disable_tqdm=True, bf16=False, **more
    )


def test_eos_is_set_everywhere(tiny_model, tokenizer):
    set_special_tokens(tiny_model, tokenizer, "<|endoftext|>", None)
    number = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert tokenizer.eos_token_id == tiny_model.config.eos_token_id == number
    assert tiny_model.generation_config.eos_token_id == [number, 2]


def test_padding_falls_back_to_the_end_token(tiny_model, tokenizer):
    tokenizer.pad_token = None
    set_special_tokens(tiny_model, tokenizer, None, None)
    assert tokenizer.pad_token == tokenizer.eos_token
    assert tiny_model.config.pad_token_id == tokenizer.pad_token_id
    assert tiny_model.generation_config.pad_token_id == tokenizer.pad_token_id
    set_special_tokens(tiny_model, tokenizer, None, "<pad>")
    assert tokenizer.pad_token == "<pad>"


@pytest.mark.parametrize("name", ["eos_token", "pad_token"])
def test_unknown_tokens_are_refused(tmp_path, tiny_model, tokenizer, pairs, name):
    args = settings(tmp_path, **{name: "<none>"})
    with pytest.raises(ValueError, match=f"{name}='<none>'"):
        SFTTrainer(tiny_model, args, train_dataset=pairs, processing_class=tokenizer)


def test_a_template_file_is_used_and_saved(tmp_path, tiny_model, tokenizer, pairs):
    path = tmp_path / "mine.jinja"
    path.write_text(JINJA)
    args = settings(tmp_path / "out", chat_template_path=str(path), save_steps=1)
    trainer = SFTTrainer(tiny_model, args, train_dataset=pairs, processing_class=tokenizer)
    assert tokenizer.decode(trainer.train_dataset[4]["input_ids"]) == (
        "#userCount.<|im_end|>#assistant0123456789<|im_end|>"
    )
    trainer.train()
    assert AutoTokenizer.from_pretrained(tmp_path / "out" / "checkpoint-1").chat_template == JINJA


@pytest.fixture
def other(tmp_path, tokenizer_files):
    """Another tokenizer with a token more, a template and an end of its own."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_files)
    tokenizer.add_special_tokens({"eos_token": "<|turn_end|>"})
    tokenizer.chat_template = JINJA
    tokenizer.save_pretrained(tmp_path / "other")
    return str(tmp_path / "other")


def test_a_chat_format_is_copied_with_its_tokens(tiny_model, tokenizer, other):
    rows = tiny_model.get_input_embeddings().weight.shape[0]
    added = apply_chat_template_path(tiny_model, tokenizer, other)
    assert [tokenizer.decode(number) for number in added] == ["<|turn_end|>"]
    assert tokenizer.eos_token == "<|turn_end|>" and tokenizer.chat_template == JINJA
    assert tiny_model.config.eos_token_id == added[0]
    grown = tiny_model.get_input_embeddings().weight.shape[0]
    assert grown >= max(rows, len(tokenizer)) and grown % 64 == 0


def test_new_tokens_can_be_learned_by_an_adapter(tmp_path, tiny_model, tokenizer, other, pairs):
    args = settings(tmp_path, chat_template_path=other)
    adapter = LoraConfig(task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        tiny_model, args, train_dataset=pairs, processing_class=tokenizer, peft_config=adapter
    )
    assert adapter.trainable_token_indices == {"embed_tokens": [len(tokenizer) - 1]}
    assert adapter.modules_to_save == ["lm_head"]
    trainer.train()
