"""Quick ids and byte places against the tokenizer's own, on every kind of tokenizer."""

import json
import random

import pytest
from conftest import CHATML, WORDS
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    processors,
    trainers,
)
from tokenizers import pre_tokenizers as cut
from transformers import PreTrainedTokenizerFast

from trainer_backend.tokens import tokenise
from trainer_backend.tokens.encode import encode, encode_batch
from trainer_backend.tokens.token_bytes import read_token_bytes

SPECIAL = ["<|end|>", "<|im_start|>", "<|im_end|>"]
SPLIT = Regex(r"(?i:'s|'t|'ll)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+")
MARKED = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}Bot:{% generation %}"
    "{{ ' ' + m['content'] }}{% endgeneration %}{% else %}Me: {{ m['content'] }}{% endif %}"
    "{% endfor %}"
)
PIECES = [
    *SPECIAL,
    "  ",
    "\n\n",
    "\t",
    " The",
    "capital ",
    "I'll",
    "12345",
    "é",
    "e\u0301",
    "日本語",
]
PIECES += [
    "한국어",
    "العربية",
    "😀",
    "👩\u200d👧",
    "▁",
    "\u00a0",
    "\r\n",
    "\x00",
    "ﬁ",
    "½",
    "—",
    "𝔘",
]


def byte_level(pre_tokenizer, normalizer=None) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        backend.normalizer = normalizer
    alphabet = cut.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([WORDS], trainer)
    return backend


def sentencepiece(normalizer=None, pre_tokenizer=None) -> Tokenizer:
    """BPE over whole texts, spaces written as a sign, unknown characters as bytes."""
    seen = Tokenizer(models.BPE())
    seen.pre_tokenizer = cut.Metaspace()
    seen.train_from_iterator([WORDS], trainers.BpeTrainer(vocab_size=200, show_progress=False))
    seen = models.BPE(**learned(seen), unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    backend = Tokenizer(seen)
    if normalizer is not None:
        backend.normalizer = normalizer
    if pre_tokenizer is not None:
        backend.pre_tokenizer = pre_tokenizer
    return backend


def learned(backend: Tokenizer) -> dict:
    model = json.loads(backend.to_str())["model"]
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *model["vocab"]]
    vocabulary = {word: at for at, word in enumerate(words)}
    return {"vocab": vocabulary, "merges": [tuple(pair) for pair in model["merges"]]}


def wordpiece() -> Tokenizer:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), cut.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=["[UNK]"], show_progress=False
    )
    backend.train_from_iterator([WORDS], trainer)
    return backend


def after_bos(backend: Tokenizer) -> Tokenizer:
    backend.add_special_tokens(SPECIAL)
    first = (SPECIAL[0], backend.token_to_id(SPECIAL[0]))
    backend.post_processor = processors.TemplateProcessing(
        single=f"{first[0]} $A", special_tokens=[first]
    )
    return backend


def stripping(backend: Tokenizer) -> Tokenizer:
    backend.add_special_tokens([AddedToken("<|im_end|>", rstrip=True, normalized=False)])
    backend.add_tokens([AddedToken("capital", single_word=True)])
    return backend


def isolated(normalizer=None) -> Tokenizer:
    words = cut.Split(SPLIT, "isolated")
    bytes_ = cut.ByteLevel(add_prefix_space=False, use_regex=False)
    return byte_level(cut.Sequence([words, bytes_]), normalizer)


SPACES = normalizers.Replace(" ", "▁")
KINDS = {
    "GPT-2": lambda: byte_level(cut.ByteLevel(add_prefix_space=False)),
    "single digits": lambda: byte_level(
        cut.Sequence([cut.Digits(individual_digits=True), cut.ByteLevel(add_prefix_space=False)])
    ),
    "Llama 3": lambda: after_bos(isolated()),
    "Qwen": lambda: isolated(normalizers.NFC()),
    "space in front": lambda: byte_level(cut.ByteLevel(add_prefix_space=True)),
    "Llama 2": lambda: sentencepiece(normalizers.Sequence([normalizers.Prepend("▁"), SPACES])),
    "Gemma": lambda: sentencepiece(SPACES, cut.Split(" ", "merged_with_previous")),
    "stripping": lambda: stripping(byte_level(cut.ByteLevel(add_prefix_space=False))),
    "Metaspace": lambda: sentencepiece(None, cut.Metaspace(prepend_scheme="first", split=False)),
    "WordPiece": wordpiece,
}
QUICK = list(KINDS)[:8]
BYTES = [kind for kind in QUICK if kind != "space in front"]


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request):
    backend = KINDS[request.param]()
    backend.add_special_tokens([AddedToken(word, normalized=False) for word in SPECIAL])
    names = {"eos_token": SPECIAL[0], "bos_token": SPECIAL[0]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    tokenizer.chat_template = CHATML
    return request.param, tokenizer


def texts(count: int, seed: int) -> list[str]:
    """Texts that tokenizers disagree about."""
    draw = random.Random(seed)
    wild = [(0x20, 0x250), (0x250, 0x3000), (0x3000, 0xD800), (0xE000, 0x10000), (0x10000, 0x11000)]
    out = []
    for _ in range(count):
        parts = draw.choices(PIECES, k=draw.randrange(1, 9))
        parts.append(chr(draw.randrange(*draw.choice(wild))))
        parts.append(WORDS[draw.randrange(40) :][: draw.randrange(30)])
        out.append("".join(draw.sample(parts, len(parts))))
    return out


def rows(count: int, seed: int) -> list[dict]:
    given, answers = texts(count, seed), texts(count, seed + 1)
    return [
        {"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b + "."}]}
        for a, b in zip(given, answers, strict=True)
    ]


@pytest.mark.parametrize("special_tokens", [True, False])
def test_quick_ids_are_the_tokenizers_own(kind, special_tokens):
    name, tokenizer = kind
    given = texts(700, seed=3)
    found = tokenise.quick_ids(tokenizer, given, special_tokens)
    assert (found is not None) == (name in QUICK)
    if found is not None:
        ids, starts = found
        own = tokenizer.backend_tokenizer.encode_batch(given, add_special_tokens=special_tokens)
        parts = [ids[a:b].tolist() for a, b in zip(starts, starts[1:], strict=False)]
        assert parts == [one.ids for one in own]


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_many_rows_give_what_one_row_gives(kind, template):
    _, tokenizer = kind
    tokenizer.chat_template = template
    chats = rows(tokenise.ENOUGH, seed=5)
    pairs = [{"prompt": c["messages"][:1], "completion": c["messages"][1:]} for c in chats]
    plain = [{"prompt": c["messages"][0]["content"], "completion": "Paris."} for c in chats]
    for examples, options in ((chats, {"assistant_only_loss": True}), (pairs, {}), (plain, {})):
        many = encode_batch(examples, tokenizer, max_length=60, **options)
        some = range(0, len(examples), 9)
        ones = [encode(examples[at], tokenizer, max_length=60, **options) for at in some]
        assert [many[at] for at in some] == ones


def test_learned_tokens_are_those_that_hold_a_character_of_the_answer(kind):
    """By the tokenizer's own offsets, token by token: the definition."""
    name, tokenizer = kind
    if name in ("space in front", "Llama 2", "Metaspace"):
        pytest.skip("its offsets of the space in front are a matter of taste")
    tokenizer.chat_template = MARKED
    for row in rows(60, seed=7):
        context, answer = (turn["content"] for turn in row["messages"])
        start = len(f"Me: {context}Bot:")
        end = start + len(f" {answer}")
        whole = tokenizer.backend_tokenizer.encode(
            f"Me: {context}Bot: {answer}", add_special_tokens=False
        )
        expected = [
            token if a < end and b > start and a < b else -100
            for token, (a, b) in zip(whole.ids, whole.offsets, strict=True)
        ]
        own = {"assistant_only_loss": True, "control_tokens": "tokens"}
        assert encode(row, tokenizer, **own).labels == expected


def test_which_tokenizers_spell_their_text(kind):
    name, tokenizer = kind
    spelled = read_token_bytes(tokenizer.backend_tokenizer)
    assert (spelled is not None) == (name in QUICK)


def test_a_character_of_several_tokens_is_learned_whole(tokenizer):
    tokenizer.chat_template = MARKED
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes 😀"}]
    found = encode({"messages": talk}, tokenizer, assistant_only_loss=True)
    learned = [label for label in found.labels if label != -100]
    assert tokenizer.decode(learned) == " Yes 😀"


def test_a_prompt_that_begins_with_bos_is_still_context():
    backend = after_bos(byte_level(cut.ByteLevel(add_prefix_space=False)))
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=SPECIAL[0], eos_token=SPECIAL[2]
    )
    found = encode({"prompt": f"{SPECIAL[0]}The capital", "completion": " is Paris."}, tokenizer)
    assert tokenizer.decode([x for x in found.labels if x != -100]) == f" is Paris.{SPECIAL[2]}"
    assert found.input_ids.count(tokenizer.bos_token_id) == 1


def test_where_quick_ids_differ_the_tokenizers_own_are_used(tokenizer, monkeypatch, caplog):
    def wrong(quick, given, special_tokens):
        ids, starts = right(quick, given, special_tokens)
        return ids[::-1].copy(), starts

    given = [{"text": text} for text in texts(600, seed=9)]
    own = {"control_tokens": "tokens"}
    expected = [encode(one, tokenizer, **own) for one in given]
    assert encode_batch(given, tokenizer, **own) == expected
    right = tokenise._flat
    monkeypatch.setattr(tokenise, "_flat", wrong)
    assert encode_batch(given, tokenizer, **own) == expected
    assert "differ" in caplog.text
    monkeypatch.undo()
    assert tokenise.quick_ids(tokenizer, [one["text"] for one in given], False) is None


def test_a_tokenizer_that_gets_new_tokens_is_read_again(tokenizer):
    given = [f"{text} Hamlet" for text in texts(600, seed=11)]
    tokenise.quick_ids(tokenizer, given, False)
    tokenizer.add_tokens([" Hamlet"])
    ids, starts = tokenise.quick_ids(tokenizer, given, False)
    assert set(ids[starts[1:] - 1]) == {len(tokenizer) - 1}


def test_a_text_that_is_not_unicode_goes_the_usual_way(tokenizer):
    given = ["fine"] * 600
    assert tokenise.quick_ids(tokenizer, [*given, "\ud800"], False) is None
    assert tokenise.quick_ids(tokenizer, given, False) is not None
