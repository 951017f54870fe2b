"""A tokenizer's part of a GGUF file: kinds of tokens, the rule for words, and what is refused."""

import json
from types import SimpleNamespace

import pytest
import transformers
from tokenizers import Regex, pre_tokenizers, processors
from transformers import AddedToken

from trainer_backend.errors import UserError
from trainer_backend.export.gguf import PATTERNS, pre_tokenizer, read_vocabulary


def settings(rows=400):
    return transformers.LlamaConfig(vocab_size=rows, bos_token_id=0, eos_token_id=2)


def refusal(function, *arguments) -> UserError:
    with pytest.raises(UserError) as caught:
        function(*arguments)
    assert "merged" in caught.value.fix and "convert_hf_to_gguf" in caught.value.fix
    return caught.value


def test_rows_without_a_token_are_filled_up(tokenizer):
    vocabulary = read_vocabulary(tokenizer, settings(403))
    assert vocabulary.tokens[-1] == "[PAD402]" and vocabulary.types[-1] == 5
    assert len(vocabulary.tokens) == len(vocabulary.types) == 403


def test_added_tokens_that_are_not_special_are_the_users(tokenizer):
    tokenizer.add_tokens(["<think>"])
    vocabulary = read_vocabulary(tokenizer, settings(401))
    assert (vocabulary.tokens[400], vocabulary.types[400]) == ("<think>", 4)


def test_a_start_token_put_before_every_text_is_noted(tokenizer):
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    vocabulary = read_vocabulary(tokenizer, settings())
    assert (vocabulary.add_bos, vocabulary.add_eos) == (True, False)


# How text is cut into words


def spec_of(tokenizer, *parts, normalizer=None, **model) -> dict:
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(list(parts)) if len(parts) > 1 else parts[0]
    spec = json.loads(backend.to_str())
    spec["normalizer"] = normalizer
    spec["model"].update(model)
    return spec


def split(pattern, behavior="isolated"):
    return pre_tokenizers.Split(Regex(pattern), behavior=behavior)


QWEN, LLAMA = PATTERNS
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
DIGITS = pre_tokenizers.Digits(individual_digits=True)
NFC = {"type": "NFC"}


@pytest.mark.parametrize(
    ("name", "parts", "extra"),
    [
        ("gpt-2", [WORDS], {}),
        ("smollm", [DIGITS, WORDS], {}),
        ("qwen2", [split(QWEN), BYTES], {"normalizer": NFC}),
        ("llama-bpe", [split(LLAMA), BYTES], {"ignore_merges": True}),
    ],
)
def test_the_rule_for_words_has_llama_cpps_name(name, parts, extra, tokenizer):
    assert pre_tokenizer(spec_of(tokenizer, *parts, **extra)) == name


def test_qwens_own_tokenizer_class_is_known():
    merges = [("a", "b")]
    qwen = transformers.Qwen2Tokenizer(vocab={"a": 0, "b": 1, "ab": 2}, merges=merges)
    assert pre_tokenizer(json.loads(qwen.backend_tokenizer.to_str())) == "qwen2"


@pytest.mark.parametrize(
    ("parts", "extra"),
    [
        ([pre_tokenizers.Whitespace()], {}),
        ([pre_tokenizers.Metaspace()], {"byte_fallback": True}),
        ([pre_tokenizers.ByteLevel(add_prefix_space=True)], {}),
        ([BYTES], {}),
        ([pre_tokenizers.Digits(individual_digits=False), WORDS], {}),
        ([split(r"\d+"), BYTES], {}),
        ([split(QWEN, "removed"), BYTES], {}),
        ([split(QWEN), WORDS], {}),
        ([split(LLAMA), BYTES], {"ignore_merges": False}),
        ([WORDS], {"ignore_merges": True}),
        ([WORDS], {"normalizer": NFC}),
        ([split(QWEN), BYTES], {"normalizer": {"type": "Lowercase"}}),
        ([WORDS], {"end_of_word_suffix": "</w>"}),
        ([WORDS], {"type": "WordLevel"}),
    ],
)
def test_other_ways_to_cut_text_are_refused(parts, extra, tokenizer):
    refusal(pre_tokenizer, spec_of(tokenizer, *parts, **extra))


def test_tokens_that_eat_the_space_beside_them_are_refused(tokenizer):
    tokenizer.add_tokens([AddedToken("<mask>", lstrip=True)])
    refusal(read_vocabulary, tokenizer, settings(401))


def test_tokenizers_without_byte_level_rules_are_refused():
    refusal(read_vocabulary, SimpleNamespace(is_fast=False), settings())


def test_more_tokens_than_rows_are_refused(tokenizer):
    assert "rows" in refusal(read_vocabulary, tokenizer, settings(300)).what


def test_a_tokenizer_without_an_end_token_is_refused(tokenizer):
    tokenizer.eos_token = None
    assert "end-of-sequence" in refusal(read_vocabulary, tokenizer, settings()).what


def test_unusual_tokens_around_a_text_are_refused(tokenizer):
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    assert "every text" in refusal(read_vocabulary, tokenizer, settings()).what
