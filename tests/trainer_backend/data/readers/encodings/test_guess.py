"""The encoding of a file found by its content: tables, JSON Lines and texts of 23 languages."""

import json
import sys

import pytest
from encoded_sentences import ENCODINGS_OF, SENTENCES, encoded
from reading_cases import put, refusal, rows

from trainer_backend.data.readers.encodings.guess import guesses, is_broken_utf8
from trainer_backend.data.readers.encodings.names import ENCODINGS, encoding_name, known_encoding
from trainer_backend.data.readers.files import open_rows
from trainer_backend.data.readers.options import ReadOptions
from trainer_backend.errors import UserError

CASES = [(language, one) for language, names in ENCODINGS_OF.items() for one in names]


def table(pairs):
    return "prompt,response\n" + "".join(f'"{asked}","{answer}"\n' for asked, answer in pairs)


def chats(pairs):
    talks = (
        [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        for asked, answer in pairs
    )
    return "".join(json.dumps({"messages": one}, ensure_ascii=False) + "\n" for one in talks)


def prose(pairs):
    return "".join(f"{asked}\n{answer}\n\n" for asked, answer in pairs)


KINDS = {"table.csv": table, "chat.jsonl": chats, "text.txt": prose}


def files(language):
    """(name, text): one of all sentences for each kind, and a table and a chat of each pair."""
    pairs = SENTENCES[language]
    yield from ((name, make(pairs)) for name, make in KINDS.items())
    for pair in pairs:
        yield from ((name, KINDS[name]([pair])) for name in ("table.csv", "chat.jsonl"))


def found_text(path, data):
    """The bytes as text, decoded as the file is read or as it is offered to be read."""
    try:
        encoding = open_rows(path).files[0].encoding
        rows(path)
    except UserError as error:
        encoding = error.offer["encoding"]
        assert error.offer["preview"] in error.fix and encoding_name(encoding) in error.fix
    return data.decode(encoding), encoding


def test_encodings_are_found_by_content(tmp_path, capsys):
    lines, wrong, total = [], [], 0
    for language, encoding in CASES:
        right = count = 0
        for name, text in files(language):
            data = encoded(text, encoding)
            read, found = found_text(put(tmp_path, name, data), data)
            count += 1
            right += read == data.decode(encoding)
            if read != data.decode(encoding):
                wrong.append((language, encoding, name, found))
        lines.append(f"{language:<22}{encoding:<14}{right}/{count}")
        total += count
    with capsys.disabled():
        found = f"\n\nEncodings found: {total - len(wrong)} of {total} files\n"
        sys.stdout.write(found + "\n".join(lines) + "\n")
    assert total > 400 and len(wrong) <= 0.02 * total, wrong


@pytest.mark.parametrize("language, encoding", CASES)
def test_a_file_of_each_encoding_is_read_as_offered(tmp_path, language, encoding):
    data = encoded(table(SENTENCES[language]), encoding)
    path = put(tmp_path, "a.csv", data)
    _, found = found_text(path, data)
    expected = [row.split('","') for row in data.decode(encoding).splitlines()[1:]]
    read = rows(path) if found.startswith("utf") else rows(path, encoding=found)
    assert [list(row.values()) for row in read] == [
        [asked.removeprefix('"'), answer.removesuffix('"')] for asked, answer in expected
    ]
    assert known_encoding(found), "what is offered can be typed after --encoding"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-be"])
@pytest.mark.parametrize("language", ["Chinese", "Russian", "French", "English"])
def test_utf16_and_utf32_need_no_mark(tmp_path, encoding, language):
    path = put(tmp_path, "a.csv", table(SENTENCES[language]).encode(encoding))
    assert [tuple(row.values()) for row in rows(path)] == SENTENCES[language]
    notes = open_rows(path).notes
    assert notes and f"Read as {encoding[:6].upper()}" in notes[0]
    assert rows(path, encoding=encoding[:6] if encoding[6:] in ("", "-le") else encoding)


def test_alternatives_are_named_with_a_line_each(tmp_path):
    path = put(tmp_path, "a.csv", encoded(table(SENTENCES["Russian"]), "cp1251"))
    offer = refusal(path).offer
    assert offer["encoding"] == "cp1251" and offer["preview"].startswith('"Во сколько')
    others = offer["alternatives"]
    assert 1 <= len(others) <= 3 and all(one["encoding"] in ENCODINGS for one in others)
    assert all(one["name"] and one["preview"] != offer["preview"] for one in others)


def test_plain_escape_sequences_are_not_read_as_utf8(tmp_path):
    text = table(SENTENCES["Japanese"])
    path = put(tmp_path, "a.csv", "x,y\n" * 300 + text, encoding="iso2022-jp")
    error = refusal(path)
    assert error.offer["encoding"] == "iso2022-jp" and "line 302, byte 2" in error.where
    assert rows(path, encoding="iso2022-jp")[-1]["y"] == SENTENCES["Japanese"][-1][1]
    colours = put(tmp_path, "b.csv", "prompt,response\n\x1b[31mred\x1b[0m,a\n")
    assert rows(colours) == [{"prompt": "\x1b[31mred\x1b[0m", "response": "a"}]


@pytest.mark.parametrize("language", ["Chinese", "Russian", "French"])
def test_one_bad_byte_does_not_make_another_encoding(tmp_path, language):
    data = table(SENTENCES[language] * 9).encode()
    at = next(at for at in range(len(data) // 2, len(data)) if data[at] > 0xBF)
    path = put(tmp_path, "a.csv", data[: at + 1] + data[at + 2 :])
    error = refusal(path)
    assert error.offer == {"skip_damaged": True} and "All else is UTF-8" in error.fix
    assert len(rows(path, skip_damaged=True)) == 9 * len(SENTENCES[language]) - 1


def test_a_wrong_choice_offers_the_right_encoding(tmp_path):
    chinese = table(SENTENCES["Chinese"])
    assert refusal(put(tmp_path, "a.csv", chinese), encoding="euc-jp").offer["encoding"] == "utf-8"
    other = put(tmp_path, "b.csv", chinese, encoding="gb18030")
    assert refusal(other, encoding="utf-16").offer["encoding"] == "gb18030"
    assert refusal(other, encoding="euc-jp").offer["encoding"] == "gb18030"


def test_damage_is_left_out_in_other_encodings_too(tmp_path):
    data = encoded(table(SENTENCES["Chinese"]), "gb18030").replace("厨".encode("gb18030"), b"\xff")
    lines = data.splitlines(keepends=True)
    path = put(tmp_path, "a.csv", b"".join([*lines[:2], b"\xff\xff,b\n", *lines[2:]]))
    kept = rows(path, encoding="gb18030", skip_damaged=True)
    assert [row["prompt"] for row in kept] == [asked for asked, _ in SENTENCES["Chinese"]]


def test_names_of_encodings_as_people_write_them():
    written = {"GBK": "gb18030", "gb2312": "gb18030", "Windows-1252": "cp1252", "sjis": "shift_jis",
               "ISO-8859-1": "latin-1", "UTF8": "utf-8", "ms949": "cp949"}  # fmt: skip
    assert {name: known_encoding(name) for name in written} == written
    assert known_encoding("rot13") is None and known_encoding("a\0") is None
    assert ReadOptions(encoding="GBK") == ReadOptions(encoding="gb18030")
    assert encoding_name("gb18030") == "Chinese (GB18030)"
    assert encoding_name("cp1252") == "Western European (Windows-1252)"


def test_bytes_that_are_no_text_give_short_previews():
    for data in (b"\xff", bytes(range(128, 256)) * 9, b"\xc3\x28" * 5, b"\x81" * 99_999):
        assert all(len(one.preview) < 70 and one.name for one in guesses(data))
    assert is_broken_utf8("é è à".encode() + b"\xe9") and not is_broken_utf8(b"caf\xe9")
