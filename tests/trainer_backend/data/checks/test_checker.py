"""Checking finds every kind of problem in the whole file, with its rows and its count."""

from dataclasses import replace

import pytest

from trainer_backend.data.checks.checker import check_examples
from trainer_backend.data.checks.findings import rows_text
from trainer_backend.data.formats.example import Example


def pair(row: int, prompt: str, answer: str) -> Example:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return Example(row, turns, None)


def chat(row: int, *turns: str) -> Example:
    """Turns like "u:hello"."""
    names = {"u": "user", "a": "assistant", "s": "system", "t": "tool"}
    turns = [{"role": names[turn[0]], "content": turn[2:]} for turn in turns]
    return Example(row, turns, None)


def good(count: int) -> list[Example]:
    return [pair(at, f"question {at}", f"answer {at}") for at in range(1, count + 1)]


def findings(*examples: Example) -> dict[str, tuple[str, tuple[int, ...], int]]:
    """What is found beyond 30 good rows: {what: (severity, rows, count)}."""
    problems = check_examples([*good(30), *examples], "x.csv")
    assert all(p.what and p.where and p.fix and p.where.startswith("x.csv") for p in problems)
    return {p.what: (p.severity, p.rows, p.count) for p in problems}


def test_good_rows_have_no_problems():
    assert findings() == {}


@pytest.mark.parametrize(
    ("example", "what"),
    [
        (chat(31, "u:a", "u:b", "a:c"), "Two user messages in a row"),
        (chat(31, "u:a", "a:b", "a:c"), "Two assistant messages in a row"),
        (chat(31, "u:a", "s:b", "a:c"), "A system message stands in the middle"),
        (chat(31, "a:b", "u:x", "a:c"), "does not begin with the user"),
        (chat(31, "s:b", "a:c"), "does not begin with the user"),
        (chat(31, "u:a", "a:b", "u:c"), "does not end with an answer"),
        (pair(31, "same ", "same"), "The answer repeats the prompt"),
        (pair(31, "a<|im_end|><|im_start|>system", "b"), "control tokens"),
        (pair(31, "a", "b</s>"), "control tokens"),
        (pair(31, "[INST] a [/INST]", "b"), "control tokens"),
        (pair(31, "a", "lost \ufffd letter"), "replacement character"),
        (pair(31, "a", "cafÃ©"), "decoded with the wrong encoding"),
        (pair(31, "itâ€™s", "b"), "decoded with the wrong encoding"),
        (pair(31, "a\x1b[31m", "b"), "invisible control"),
        (pair(31, "a\u202eb", "b"), "invisible control"),
        (Example(31, None, "x <|endoftext|> y"), "control tokens"),
        (pair(31, "key", "use " + "sk-" + "a1B2" * 8), "access key"),
        (pair(31, "-----BEGIN RSA " + "PRIVATE KEY-----", "b"), "access key"),
        (pair(31, "AKIA" + "ABCD1234EFGH5678", "b"), "access key"),
        (pair(31, "write to jo.doe+x@mail.co.uk", "b"), "e-mail"),
        (pair(31, "pay with 4539-5787-6362-1486 now", "b"), "card number"),
        (pair(31, "a", "As an AI language model, I cannot"), "stock phrases"),
        (
            pair(31, "Repeat: " + "some words " * 5, "some words " * 4 + "some"),
            "contains the whole answer",
        ),
        (pair(31, "a", " b"), "begin or end with white space"),
        (pair(31, "a", "b\n"), "begin or end with white space"),
        (pair(31, "Call +49 30 901820 today", "b"), "phone"),
        (pair(31, "a", "(212) 664-7665"), "phone"),
    ],
)
def test_each_problem_is_found(example, what):
    found = findings(example)
    assert len(found) == 1
    ((found_what, (severity, rows, count)),) = found.items()
    assert what in found_what and rows == (31,) and count == 1 and severity in ("warning", "info")


@pytest.mark.parametrize(
    "text",
    [
        "a < b and c[0] > 2",
        "<p>hi</p>",
        "tab\tline\nend",
        "naïve Ångström façade “quotes” 🎉",
        "\\u0041",
        "C:\\u0001",
        "São Paulo",
        "½ § ©",
        "<script>alert(1)</script>",
        "order 1234567890123456",
        "task-based sk-learn",
        "@home me@ x@y",
        "a@example.com",
        "3.14159265358979323846",
        "0000 0000 0000 0000",
        "2024-05-17 12:30:45 and 10.0.0.255",
        "call 212-555-0187",
        "ISBN 978-3-16-148410-0",
        "I am an AI",
    ],
)
def test_ordinary_text_has_no_findings(text):
    assert findings(pair(31, text, "b")) == {}
    assert findings(pair(31, "c", text)) == {}


def test_duplicates_and_repeated_prompts():
    found = findings(pair(31, "question 1", "answer 1"), pair(32, "question 1", "another"))
    assert found["Rows repeat an earlier row exactly."] == ("warning", (31,), 1)
    assert found["Prompts repeat an earlier prompt with another answer."] == ("info", (32,), 1)
    same = check_examples([pair(at, "a", "b") for at in range(1, 41)], "x")
    assert same[0].what == "All rows are the same." and same[0].count == 39


def test_few_rows():
    (one,) = check_examples(good(1), "x.csv")
    assert one.severity == "warning" and "only one usable row" in one.what
    (few,) = check_examples(good(19), "x.csv")
    assert few.severity == "info" and "19" in few.what


def test_first_rows_are_kept_and_all_are_counted():
    problems = check_examples([pair(at, f"{at}", f"\ufffd{at}") for at in range(1, 501)], "x.csv")
    (problem,) = problems
    assert problem.count == 500 and len(problem.rows) == 100 and problem.rows[:2] == (1, 2)
    assert problem.where == "x.csv, rows 1, 2, 3, 4, 5 and 495 more"


def test_rows_text():
    assert rows_text([1_234], 1) == "row 1,234"
    assert rows_text([1, 2], 2) == "rows 1 and 2"
    assert rows_text([1, 2, 3], 3) == "rows 1, 2 and 3"


@pytest.mark.parametrize(
    "example",
    [
        pair(31, "question?", "NaN"),
        pair(31, "question?", " n/a\n"),
        pair(31, "None", "answer"),
        pair(31, "Sum up.\n\nnan", "answer"),
        pair(31, "question?", "#N/A"),
        pair(31, "question?", "-"),
        chat(31, "s:null", "u:question", "a:answer"),
        chat(31, "u:question", "a:answer", "u:and?", "a:None"),
        Example(31, None, "NaN"),
    ],
)
def test_missing_values_written_as_text_are_found(example):
    found = findings(example)
    assert found["A prompt or an answer is only a mark for a missing value, such as NaN, None or "
                 "N/A."] == ("warning", (31,), 1)  # fmt: skip


def test_words_that_only_contain_such_a_mark_are_none():
    some = pair(31, "Is None a value?", "Nanette\n\nnan is bread."), pair(32, "-1", "0")
    assert findings(*some) == {}


@pytest.mark.parametrize(
    "mark",
    "<image> <video> <audio> <|image|> <|image_1|> <image_1> [IMG] <|image_pad|>".split(),
)
def test_media_marks_without_media_are_found(mark):
    what = "Texts contain marks of images, videos or sounds, but their rows hold none."
    example = pair(31, f"{mark}\nWhat is it?", "A cup.")
    assert findings(example)[what] == ("warning", (31,), 1)
    pictured = replace(example, images=["images/x.png"])
    assert what not in findings(pictured)
    assert what not in findings(pair(31, "What is an image of a set?", "f(A)"))
