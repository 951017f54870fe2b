"""Text that was decoded with the wrong encoding is found, and no language is taken for it."""

import pytest
from encoded_sentences import SENTENCES, encoded

from trainer_backend.data.checks.mojibake import mojibake_places
from trainer_backend.data.checks.texts import MOJIBAKE, text_findings

ALWAYS = ("Chinese", "Chinese, traditional", "Japanese", "Korean", "Russian", "Greek", "Arabic")
BYTES_AS_LATIN = {
    "Chinese": ("gb18030",),
    "Chinese, traditional": ("big5",),
    "Japanese": ("shift_jis", "euc-jp"),
    "Korean": ("euc-kr",),
    "Russian": ("cp1251", "koi8-r", "cp866", "iso8859-5"),
    "Greek": ("cp1253", "iso8859-7"),
    "Hebrew": ("cp1255",),
    "Arabic": ("cp1256", "iso8859-6"),
}


def texts(language):
    return [f"{asked} {answer}" for asked, answer in SENTENCES[language]]


@pytest.mark.parametrize("language", SENTENCES)
def test_no_language_is_taken_for_damage(language):
    found = list(mojibake_places("\0".join(texts(language))))
    assert found == []


@pytest.mark.parametrize("language", BYTES_AS_LATIN)
def test_other_encodings_read_as_latin1_are_found(language):
    for encoding in BYTES_AS_LATIN[language]:
        for text in texts(language):
            wrong = encoded(text, encoding).decode("latin-1")
            assert list(mojibake_places(wrong)), (encoding, wrong)


@pytest.mark.parametrize("language", ALWAYS)
@pytest.mark.parametrize("wrong", ["latin-1", "cp1252", "cp1251", "koi8-r"])
def test_utf8_read_as_another_encoding_is_found(language, wrong):
    for text in texts(language):
        read = text.encode().decode(wrong, "ignore")
        if read.encode(wrong) == text.encode():  # else some bytes have no character
            assert list(mojibake_places(read)), read


@pytest.mark.parametrize("text", ["ÄãºÃ", "Ïðèâåò", "¤¤¤å", "Ã©", "РџСЂРёРІРµС‚", "锟斤拷",
                                  "рТЙЧЕФ, НЙТ рТЙЧЕФ", "nauczyÄ‡ siÄ™", "donвЂ™t"])  # fmt: skip
def test_well_known_damage(text):
    found = {kind.code: list(rows) for kind, rows in text_findings(["fine", text, "é"])}
    assert found["mojibake"] == [1]


@pytest.mark.parametrize(
    "text",
    [
        "¡¡¡Éxito!!!", "«¿Qué?»", "ÀÀÀÀÀH", "nóóóóóó", "x³y + 5‰", "Tür–Öl", "§§§§", "»»»» é ««««",
        "СССР и РСФСР", "иПХОНЕ", "það er ýmislegt", "été’", "word—word", "°°°°", "für 10 €",
    ],
)  # fmt: skip
def test_odd_but_right_text(text):
    assert list(mojibake_places(text)) == []


def test_the_finding_says_what_to_do():
    assert "own encoding" in MOJIBAKE.fix and "UTF-8" in MOJIBAKE.fix
