"""Texts as arrays of words, their languages, and their MinHash sketches."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.trainer_backend.data.formats.columns.support_texts import ASKS, REPLIES
from trainer_backend.data.checks.languages import LANGUAGES, languages_of
from trainer_backend.data.checks.near_duplicates import BINS, Sketcher, near_repeats
from trainer_backend.data.checks.words import word_arrays


def words_of(*texts: str) -> list[tuple[int, str]]:
    found = word_arrays(texts)
    spelled = []
    for head, tail, size, text in zip(found.head, found.tail, found.size, found.text, strict=True):
        letters = int(head).to_bytes(8, "little") + int(tail).to_bytes(8, "little")
        spelled.append((int(text), letters[: int(size)].decode()))
    return spelled


def test_words_are_runs_of_letters_and_digits():
    assert words_of("Hello, World-7!\tEnd\n", "", "it’s “new”…", "a\u00a0b") == [
        (0, "hello"), (0, "world"), (0, "7"), (0, "end"), (2, "it"), (2, "s"), (2, "new"),
        (3, "a"), (3, "b"),
    ]  # fmt: skip


def test_signs_without_spaces_between_them_are_words():
    assert words_of("我爱 tea茶") == [(0, "我"), (0, "爱"), (0, "tea"), (0, "茶")]
    assert words_of("naïve café", "việt") == [(0, "naïve"), (0, "café"), (1, "việt")]


def test_only_the_beginning_of_a_long_word_is_kept():
    found = word_arrays(["internationalisation"])
    assert found.size.tolist() == [20]
    assert int(found.tail[0]).to_bytes(8, "little") == b"ionalisa"


@settings(max_examples=100, deadline=None)
@given(some.lists(some.text(max_size=30), max_size=5))
def test_any_text_has_words_that_lie_in_it(texts):
    found = word_arrays(texts)
    assert found.num_texts == len(texts) and len(found.head) == len(found.text) == len(found.size)
    assert (found.size > 0).all() and (np.diff(found.text) >= 0).all()
    if len(found.text):
        assert found.text[-1] < len(texts)
    assert len(languages_of(found)) == len(texts)
    sketches = Sketcher().sketch(found, np.arange(len(texts)), len(texts))
    assert sketches.shape == (len(texts), BINS)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France and how many people live there?", "English"),
        ("Die Hauptstadt von Deutschland ist Berlin, und sie ist nicht klein.", "German"),
        ("La capitale de la France est Paris, une ville qui est dans le nord.", "French"),
        ("El perro está en la casa y los niños son muy felices con él.", "Spanish"),
        ("Il gatto è sul tavolo e non vuole essere disturbato perché sono qui.", "Italian"),
        ("O gato está na mesa e não quer ser incomodado por você ou sua mãe.", "Portuguese"),
        ("Het is niet zo dat een mens van het leven houdt.", "Dutch"),
        ("To jest proste zdanie, które nie jest długie, ale się liczy.", "Polish"),
        ("Det är inte så lätt att veta vad som är rätt för den som inte kan.", "Swedish"),
        ("Det er ikke så let at vide, hvad der er rigtigt.", "Danish or Norwegian"),
        ("Tôi không biết bạn có thể làm được những việc này không", "Vietnamese"),
        ("Это простое предложение на русском языке.", "Russian or another in Cyrillic"),
        ("هذه جملة بسيطة باللغة العربية", "Arabic or another in its script"),
        ("यह एक सरल वाक्य है", "Hindi or another of India"),
        ("这是一个简单的中文句子。", "Chinese"),
        ("これは簡単な日本語の文です。", "Japanese"),
        ("이것은 간단한 한국어 문장입니다.", "Korean"),
        ("def f(x): return x + 1", "unknown"),
        ("Paris", "unknown"),
        ("Where is my parcel?", "English"),
        ("Thank you!", "English"),
        ("Wo ist mein Paket?", "German"),
        ("Vielen Dank für Ihre Hilfe", "German"),
        ("¿Dónde está mi paquete?", "Spanish"),
        ("Où est mon colis ?", "French"),
        ("Die Hard", "unknown"),
        ("Password reset", "unknown"),
        ("Rechnung", "unknown"),
        ("", "unknown"),
    ],
)
def test_languages(text, language):
    assert LANGUAGES[languages_of(word_arrays([text]))[0]] == language


NAMES = {
    "en": "English", "de": "German", "es": "Spanish", "fr": "French", "it": "Italian",
    "pt": "Portuguese", "nl": "Dutch", "pl": "Polish", "sv": "Swedish", "tr": "Turkish",
}  # fmt: skip


@pytest.mark.parametrize("language", NAMES)
def test_short_messages_are_judged_rightly_or_called_unclear(language):
    texts = [*ASKS[language], *REPLIES[language]]
    found = [LANGUAGES[code] for code in languages_of(word_arrays(texts))]
    assert set(found) <= {NAMES[language], "unknown"}
    assert found.count(NAMES[language]) >= len(texts) / 2


def sketched(texts: list[str]) -> np.ndarray:
    return Sketcher().sketch(word_arrays(texts), np.arange(len(texts)), len(texts))


def triples(text: str) -> set:
    words = text.split()
    return {tuple(words[at : at + 3]) for at in range(len(words) - 2)}


def test_sketches_estimate_the_jaccard_similarity():
    choice, similarities, texts = random.Random(3), [], []
    for _ in range(300):
        words = [f"w{choice.randrange(10_000)}" for _ in range(60)]
        other = [word if choice.random() > 0.1 else "other" for word in words]
        texts += [" ".join(words), " ".join(other)]
        one, two = triples(texts[-2]), triples(texts[-1])
        similarities.append(len(one & two) / len(one | two))
    sketches = sketched(texts)
    estimated = (sketches[0::2] == sketches[1::2]).mean(axis=1)
    errors = estimated - similarities
    assert abs(np.mean(errors)) < 0.01 and np.std(errors) < 0.09


def test_short_texts_are_not_compared():
    sketches = sketched(["one two three four"] * 2)
    assert not sketches.any() and near_repeats(sketches, np.zeros(2, bool))[0].size == 0


def test_each_repeat_comes_with_the_first_similar_row():
    text = " ".join(f"w{at}" for at in range(200))
    texts = [text, " ".join(f"v{at}" for at in range(200)), text + " x", text + " y z"]
    later, earlier = near_repeats(sketched(texts), np.zeros(4, bool))
    assert later.tolist() == [2, 3] and earlier.tolist() == [0, 0]
    later, _ = near_repeats(sketched(texts), np.array([False, False, True, False]))
    assert later.tolist() == [3], "what is left out is not reported"


def test_the_shortest_text_that_is_compared_has_six_triples():
    eight, seven = "a b c d e f g h", "a b c d e f g"
    assert sketched([eight]).any() and not sketched([seven]).any()


def test_rows_are_alike_from_51_equal_bytes_on():
    first = np.arange(1, BINS + 1, dtype=np.uint8)
    enough, too_few = first.copy(), first.copy()
    enough[51:] = 200
    too_few[50:] = 100
    later, earlier = near_repeats(np.stack([first, too_few, enough]), np.zeros(3, bool))
    assert later.tolist() == [2] and earlier.tolist() == [0]


def test_a_row_is_compared_with_the_first_and_with_the_one_before_it():
    one, other = (np.full(BINS, value, np.uint8) for value in (1, 2))
    for row in (one, other):
        row[:4] = 9  # all agree in the first band
    later, earlier = near_repeats(np.stack([one, other, other, one]), np.zeros(4, bool))
    assert later.tolist() == [2, 3] and earlier.tolist() == [1, 0]
