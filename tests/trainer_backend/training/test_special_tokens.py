"""End, padding and chat tokens: set together for tokenizer and model, saved with checkpoints."""

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from same_device import same
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
)

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.models.loaded.load import load_adapter
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


def gpt2():
    torch.manual_seed(0)
    size = {"n_positions": 128, "n_embd": 32, "n_layer": 2, "n_head": 4}
    ends = {"bos_token_id": 0, "eos_token_id": 2, "initializer_range": 0.2}
    return GPT2LMHeadModel(GPT2Config(vocab_size=400, **size, **ends))


def neox():
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 2, "initializer_range": 0.2}
    return GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=400, num_attention_heads=4, **size, **ends))


NEW_TOKENS = {
    "untied": (lambda make: make(), "embed_tokens", ["lm_head"]),
    "tied": (lambda make: make(tie_word_embeddings=True), "embed_tokens", None),
    "GPT-2": (lambda make: gpt2(), "wte", None),
    "GPT-NeoX": (lambda make: neox(), "embed_in", ["lm_head"]),
}


@pytest.mark.parametrize("kind", NEW_TOKENS)
def test_new_tokens_are_the_same_reloaded_merged_and_resumed(
    tmp_path, make_model, tokenizer, other, pairs, kind
):
    build, name, head = NEW_TOKENS[kind]
    build(make_model).save_pretrained(tmp_path / "base")
    base = str(tmp_path / "base")

    def train(out: str, **more) -> SFTTrainer:
        adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
        args = SFTConfig(
            str(tmp_path / out),
            max_steps=4,
            save_steps=2,
            logging_steps=1,
            learning_rate=1e-2,
            report_to="none",
            disable_tqdm=True,
            bf16=False,
            chat_template_path=other,
        )
        rows = {"train_dataset": pairs, "peft_config": adapter}
        fresh = AutoTokenizer.from_pretrained(tokenizer.name_or_path)
        trainer = SFTTrainer(base, args, processing_class=fresh, **rows)
        assert adapter.trainable_token_indices == {name: [len(fresh) - 1]}
        assert adapter.modules_to_save == head
        trainer.train(**more)
        return trainer

    trainer = train("a")
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[-1] < losses[0]
    model, ids = trainer.model.cpu().eval(), torch.arange(380, 401)[None]
    with torch.no_grad():
        wanted = model(input_ids=ids).logits
        loaded = load_adapter(
            AutoModelForCausalLM.from_pretrained(base), tmp_path / "a/checkpoint-4"
        )
        found = loaded.eval()(input_ids=ids).logits
        merged = loaded.merge_and_unload()
        merged.save_pretrained(tmp_path / "merged")
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
        differences = [(wanted - one(input_ids=ids).logits).abs().max() for one in (merged, again)]
    assert torch.equal(wanted, found) and max(differences) < 1e-4
    resumed = train("a", resume_from_checkpoint=str(tmp_path / "a/checkpoint-2"))
    first, second = (get_peft_model_state_dict(one.model) for one in (trainer, resumed))
    assert first.keys() == second.keys()
    assert all(same(second[key], first[key]) for key in first)
