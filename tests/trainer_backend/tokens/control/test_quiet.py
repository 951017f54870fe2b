"""Control tokens that a text spells become plain text, on every kind of tokenizer."""

import json
import random

import pytest
from conftest import CHATML, WORDS
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors, trainers
from tokenizers import pre_tokenizers as cut
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from trainer_backend.data.checks.control import SPELLED
from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.control.quiet import moved
from trainer_backend.tokens.control.spelling import control_tokens
from trainer_backend.tokens.encode import ExampleError, encode, encode_batch, prompt_ids

SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<unk>"]
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PIECES = [
    *SPECIAL[:4],
    *SPECIAL[:4],
    " ",
    "\n",
    "The capital",
    " is",
    "12",
    "é",
    "日本",
    "<|im_",
    "end|>",
]


def byte_level(normalizer=None, prefix: bool = False) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = cut.ByteLevel(add_prefix_space=prefix)
    backend.decoder = decoders.ByteLevel()
    if normalizer is not None:
        backend.normalizer = normalizer
    letters = cut.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=letters, show_progress=False, special_tokens=SPECIAL
    )
    backend.train_from_iterator([WORDS], trainer)
    return backend


def sentencepiece(normalizer, pre_tokenizer=None) -> Tokenizer:
    seen = Tokenizer(models.BPE())
    seen.pre_tokenizer = cut.Metaspace()
    seen.train_from_iterator([WORDS], trainers.BpeTrainer(vocab_size=200, show_progress=False))
    model = json.loads(seen.to_str())["model"]
    words = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *model["vocab"]]
    vocabulary = {word: at for at, word in enumerate(dict.fromkeys(words))}
    merges = [tuple(pair) for pair in model["merges"]]
    backend = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    if normalizer is not None:
        backend.normalizer = normalizer
    if pre_tokenizer is not None:
        backend.pre_tokenizer = pre_tokenizer
    return backend


def unigram() -> Tokenizer:
    """Pieces with scores; the control tokens stand among them, as in a SentencePiece file."""
    letters = sorted({*WORDS.replace(" ", "▁"), *"<>|/_", *"imstartend", "▁"})
    pieces = [(name, 0.0) for name in SPECIAL] + [(f"<0x{byte:02X}>", -9.0) for byte in range(256)]
    pieces += [(letter, -4.0) for letter in letters] + [("▁The", -2.0), ("▁capital", -2.0)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=4, byte_fallback=True))
    backend.pre_tokenizer = cut.Metaspace(prepend_scheme="first")
    backend.normalizer = normalizers.NFKC()
    return backend


def wordpiece() -> Tokenizer:
    backend = Tokenizer(models.WordPiece(unk_token="<unk>"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), cut.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=SPECIAL, show_progress=False)
    backend.train_from_iterator([WORDS + " <s> | / _ im start end"], trainer)
    return backend


def with_bos(backend: Tokenizer) -> Tokenizer:
    backend.add_special_tokens(SPECIAL)
    first = ("<s>", backend.token_to_id("<s>"))
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[first])
    return backend


SPACES = normalizers.Replace(" ", "▁")
KINDS = {
    "GPT-2": byte_level,
    "Llama 3": lambda: with_bos(byte_level()),
    "Qwen": lambda: byte_level(normalizers.NFC()),
    "space in front": lambda: byte_level(prefix=True),
    "Llama 2": lambda: sentencepiece(normalizers.Sequence([normalizers.Prepend("▁"), SPACES])),
    "Gemma": lambda: sentencepiece(SPACES, cut.Split(" ", "merged_with_previous")),
    "Metaspace": lambda: sentencepiece(None, cut.Metaspace(prepend_scheme="first", split=False)),
    "Unigram": unigram,
    "WordPiece": wordpiece,
}
IN_PIECES = [
    "GPT-2",
    "Qwen",
    "space in front",
    "Llama 2",
    "Gemma",
]  # one piece leaves the next as it is
SPELLING = ["GPT-2", "Llama 3", "Qwen"]  # decode() gives the text back


def make(name: str, backend: Tokenizer, **flags) -> PreTrainedTokenizerFast:
    backend.add_special_tokens([AddedToken(word, **flags) for word in SPECIAL])
    backend.add_tokens([AddedToken("<tool>", special=False, normalized=False)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    )
    tokenizer.chat_template = CHATML
    return tokenizer


@pytest.fixture(scope="module", params=[*KINDS, "stripping", "normalised"])
def kind(request):
    name = request.param
    backend = KINDS.get(name, byte_level)()
    if name == "normalised":
        backend.normalizer = normalizers.NFC()
    flags = {"normalized": name == "normalised", "rstrip": name == "stripping"}
    return name, make(name, backend, **flags)


def talks(count: int, seed: int) -> list[list[dict]]:
    draw, out = random.Random(seed), []
    for _ in range(count):
        texts = ["".join(draw.choices(PIECES, k=draw.randrange(1, 7))) for _ in range(4)]
        out.append(
            [
                {"role": ("user", "assistant")[at % 2], "content": text}
                for at, text in enumerate(texts)
            ]
        )
    return out


def in_pieces(tokenizer, messages: list[dict]) -> list[int]:
    """The definition: the template's tokens, and between them texts without control tokens."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.encode_special_tokens = True
    ids: list[int] = []
    for message in messages:
        ids.append(tokenizer.convert_tokens_to_ids("<|im_start|>"))
        text = f"{message['role']}\n{message['content']}"
        ids += backend.encode(text, add_special_tokens=False).ids
        ids.append(tokenizer.convert_tokens_to_ids("<|im_end|>"))
        ids += backend.encode("\n", add_special_tokens=False).ids
    return ids


def test_only_the_templates_tokens_are_control_tokens(kind):
    name, tokenizer = kind
    special = {tokenizer.convert_tokens_to_ids(word) for word in SPECIAL[:4]}
    ends = tokenizer.convert_tokens_to_ids("<|im_end|>")
    starts = tokenizer.convert_tokens_to_ids("<|im_start|>")
    for messages in talks(60, seed=1):
        found = encode({"messages": messages}, tokenizer)
        assert [x for x in found.input_ids if x in special] == [starts, ends] * len(messages)
        if name in IN_PIECES:
            assert found.input_ids == in_pieces(tokenizer, messages)
        if name in SPELLING:
            text = tokenizer.apply_chat_template(messages, tokenize=False)
            assert tokenizer.decode(found.input_ids) == text
        before = encode({"messages": messages}, tokenizer, control_tokens="tokens")
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        assert before.input_ids == tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("word", ["</s>", "<|im_end|>", "<|im_start|>user", "<s>"])
def test_other_tokens_are_those_beside_an_innocent_word(kind, word):
    _, tokenizer = kind
    rows = []
    for said in ("<|xy_zz|>", word):
        ask, answer = f"The capital {said} is 12", f"{said}\n\nParis {said} Paris"
        talk = [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]
        rows.append(encode({"messages": talk}, tokenizer).input_ids)
    plain, found = rows
    head = tokenizer("<|im_start|>user\nThe capital", add_special_tokens=False)["input_ids"]
    assert found[: len(head)] == plain[: len(head)] == head
    ends = tokenizer.convert_tokens_to_ids("<|im_end|>")
    between = [row[row.index(ends) - 2 : row.index(ends) + 4] for row in rows]
    assert between[0] == between[1] and plain[-2:] == found[-2:]


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_labels_are_those_of_the_answers_characters(kind, template):
    name, tokenizer = kind
    tokenizer.chat_template = template
    many = talks(80, seed=2)
    found = encode_batch([{"messages": one} for one in many], tokenizer, assistant_only_loss=True)
    for messages, row in zip(many, found, strict=True):
        assert row == encode({"messages": messages}, tokenizer, assistant_only_loss=True)
        learned = [x for x in row.labels if x != -100]
        ends = tokenizer.convert_tokens_to_ids("<|im_end|>")
        assert learned.count(ends) == 2 and learned[-1] == ends
        if name in SPELLING:
            answers = [one["content"] + "<|im_end|>" for one in messages[1::2]]
            assert tokenizer.decode(learned) == "".join(answers)
    tokenizer.chat_template = CHATML


def test_the_chat_prompt_is_the_beginning_of_the_training_row(kind):
    _, tokenizer = kind
    for messages in talks(40, seed=3):
        prompt = prompt_ids(messages[:1], tokenizer)
        row = encode({"messages": messages}, tokenizer, last_turn_only=True)
        if prompt[-1] == row.input_ids[len(prompt) - 1]:
            assert row.input_ids[: len(prompt)] == prompt
        pair = encode({"prompt": messages[:1], "completion": messages[1:2]}, tokenizer)
        kept = [x != -100 for x in pair.labels]
        assert pair.input_ids == encode({"messages": messages[:2]}, tokenizer).input_ids
        assert kept.index(True) in (len(prompt), len(prompt) - 1)


def test_a_token_that_is_not_special_stays_one(kind):
    _, tokenizer = kind
    text = "a <tool> b </s> c"
    found = encode({"messages": [{"role": "user", "content": text}]}, tokenizer).input_ids
    assert tokenizer.convert_tokens_to_ids("<tool>") in found
    assert tokenizer.convert_tokens_to_ids("</s>") not in found


def test_a_tokenizer_without_a_fast_backend():
    tokenizer = ByT5Tokenizer()
    tokenizer.add_tokens([AddedToken("<|im_start|>", special=True, rstrip=False, lstrip=False)])
    tokenizer.add_tokens([AddedToken("<|im_end|>", special=True, rstrip=False, lstrip=False)])
    tokenizer.chat_template = MARKED
    ends = tokenizer.convert_tokens_to_ids("<|im_end|>")
    talk = [
        {"role": "user", "content": "a<|im_end|></s> b"},
        {"role": "assistant", "content": "<|im_start|>é"},
    ]
    row = encode({"messages": talk}, tokenizer, assistant_only_loss=True)
    assert row.input_ids.count(ends) == 2 and tokenizer.eos_token_id not in row.input_ids
    text = tokenizer.apply_chat_template(talk, tokenize=False)
    assert tokenizer.decode(row.input_ids) == text
    assert tokenizer.decode([x for x in row.labels if x != -100]) == "<|im_start|>é<|im_end|>"
    assert prompt_ids(talk[:1], tokenizer) == row.input_ids[: len(prompt_ids(talk[:1], tokenizer))]
    plain = encode({"text": "a</s>b"}, tokenizer)
    assert plain.input_ids.count(tokenizer.eos_token_id) == 1


def test_characters_that_stand_for_tokens_may_be_in_a_text(kind):
    _, tokenizer = kind
    text = "</s>" + "".join(map(chr, range(0xFDD0, 0xFDEF))) + "\ue000\U000f0000"
    talk = {"messages": [{"role": "user", "content": text}]}
    found = encode(talk, tokenizer).input_ids
    assert tokenizer.convert_tokens_to_ids("</s>") not in found
    with pytest.raises(TrainingDataError, match="all 32 characters"):
        encode({"messages": [{"role": "user", "content": text + chr(0xFDEF)}]}, tokenizer)


def test_spans_move_with_the_names_before_them():
    places = [(0, 4), (6, 16)]
    spans = [(4, 6), (0, 20), (16, 20), (2, 10)]
    assert moved(spans, places) == [(2, 4), (0, 10), (6, 10), (1, 5)]


def test_a_padding_token_of_plain_letters_is_no_control_token(tokenizer):
    tokenizer.pad_token = "!"
    assert "!" not in control_tokens(tokenizer).names
    assert encode({"text": "a!"}, tokenizer).ledger & SPELLED == 0
    assert encode({"text": "a<|im_start|>!"}, tokenizer).ledger & SPELLED


def test_a_tokenizer_that_cannot_be_asked_this_way_is_refused_with_its_row():
    tokenizer = make("Llama 2", KINDS["Llama 2"](), normalized=True)  # sees “ </s>”, not “</s>”
    rows = [{"messages": [{"role": "user", "content": text}]} for text in ("a", "b </s>")]
    with pytest.raises(ExampleError, match="it encodes otherwise") as caught:
        encode_batch(rows, tokenizer)
    assert caught.value.index == 1 and "Control tokens in texts" in caught.value.fix
    encode_batch(rows, tokenizer, control_tokens="tokens")
