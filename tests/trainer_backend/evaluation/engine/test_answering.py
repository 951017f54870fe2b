"""Answers in batches are those of one prompt at a time, id for id, whatever the model keeps."""

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
)

from trainer_backend.evaluation.engine import answering
from trainer_backend.evaluation.engine.answering import (
    Writer,
    common_beginning,
    write_answers,
)

SHARED = [5, 9, 11, 40, 7]
RESTS = [[20], [31, 22, 8], [77, 12, 90, 13, 55, 66, 21], [31, 22, 9]]
PROMPTS = [[*SHARED, *rest] for rest in RESTS]
LIMITS = [9, 14, 3, 14]
SMALL = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
WIDE = {"initializer_range": 0.2, "eos_token_id": 2, "pad_token_id": 3, "bos_token_id": 0}


def mistral():
    config = MistralConfig(**SMALL, **WIDE, intermediate_size=64, num_key_value_heads=2,
                           sliding_window=4)  # fmt: skip
    return MistralForCausalLM(config)


def gpt2():
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=64, **WIDE)
    )


def by_name(kind: str, **changes):
    config = AutoConfig.for_model(kind, **SMALL, **WIDE, **changes)
    return AutoModelForCausalLM.from_config(config)


MODELS = {
    "llama": lambda make: make(),
    "sliding window": lambda _: mistral(),
    "learned positions": lambda _: gpt2(),
    "alibi": lambda _: by_name("bloom", n_head=4, n_layer=2),
    "soft caps and windows": lambda _: by_name(
        "gemma2", intermediate_size=64, num_key_value_heads=2, head_dim=8, sliding_window=4
    ),
    "state space": lambda _: by_name("mamba", intermediate_size=64, state_size=4),
}


@pytest.mark.parametrize("kind", MODELS)
def test_batches_answer_as_one_prompt_at_a_time(make_model, tokenizer, kind):
    torch.manual_seed(0)
    model = MODELS[kind](make_model).eval()
    alone = []
    for prompt, limit in zip(PROMPTS, LIMITS, strict=True):
        ids = torch.tensor([prompt])
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit,
            do_sample=False, pad_token_id=3, eos_token_id=2,
        )  # fmt: skip
        alone.append([token for token in out[0, len(prompt) :].tolist() if token != 2])
    counted: list[int] = []
    written = write_answers(model, tokenizer, PROMPTS, LIMITS, counted.append, at_once=3)
    assert [one.ids for one in written] == alone
    assert all(
        one.cut == (len(one.ids) == limit) for one, limit in zip(written, LIMITS, strict=True)
    )
    assert counted == sorted(counted) and counted[-1] == len(PROMPTS)
    together = Writer(model, tokenizer, PROMPTS, LIMITS, counted.append).together
    assert together == (kind != "state space")


def test_rows_end_at_the_marks_of_the_template_and_say_that_they_were_not_cut(
    tiny_model, tokenizer
):
    free = write_answers(tiny_model.eval(), tokenizer, PROMPTS[:1], [12])[0]
    assert free.cut and len(free.ids) == 12
    tiny_model.generation_config.eos_token_id = free.ids[5]
    ended = write_answers(tiny_model, tokenizer, PROMPTS[:1], [12])[0]
    assert ended.ids == free.ids[: free.ids.index(free.ids[5])] and not ended.cut


def test_without_memory_fewer_rows_are_answered_at_a_time(monkeypatch, tiny_model, tokenizer):
    expected = write_answers(tiny_model, tokenizer, PROMPTS, LIMITS)
    sizes, answer = [], Writer.answer

    def short(self, rows):
        sizes.append(len(rows))
        if len(rows) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return answer(self, rows)

    monkeypatch.setattr(Writer, "answer", short)
    assert write_answers(tiny_model, tokenizer, PROMPTS, LIMITS) == expected
    assert sizes == [4, 2, 1, 1, 1, 1]


def test_nothing_changes_in_a_model_that_trains(tiny_model, tokenizer):
    tiny_model.train()
    tiny_model.model.layers[0].eval()
    tiny_model.config.use_cache = False
    modes = [one.training for one in tiny_model.modules()]
    before, state = torch.random.get_rng_state(), torch.random.get_rng_state()
    write_answers(tiny_model, tokenizer, PROMPTS, LIMITS)
    assert [one.training for one in tiny_model.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), before) and torch.equal(before, state)
    assert tiny_model.config.use_cache is False
    assert not tiny_model.get_output_embeddings()._forward_pre_hooks


def test_what_prompts_share_leaves_a_token_of_each():
    assert common_beginning(PROMPTS) == 5
    assert common_beginning([[1, 2, 3], [1, 2]]) == 1 and common_beginning([[4]]) == 0
    assert common_beginning([[1], [2, 1]]) == 0
    assert answering.write_answers(None, None, [], []) == []
