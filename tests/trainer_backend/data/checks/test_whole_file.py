"""Checks over all rows: each finding has rows that cause it, rows that do not, and advice."""

import random

import numpy as np

from trainer_backend.data.checks.checker import Checker, check_examples
from trainer_backend.data.checks.languages import LANGUAGES
from trainer_backend.data.checks.statistics import EDGES, read_statistics
from trainer_backend.data.checks.whole_file import ends_in_mid_sentence
from trainer_backend.data.formats.example import Example
from trainer_backend.errors import CODES, Problem

WORDS = "alder birch cedar dogwood elm fir ginkgo hazel ironwood juniper larch maple".split()


def pair(row: int, prompt: str, answer: str) -> Example:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return Example(row, turns, None)


def sentence(seed: int, count: int = 25, end: str = ".") -> str:
    choice = random.Random(seed)
    return " ".join(f"{choice.choice(WORDS)}{choice.randrange(90)}" for _ in range(count)) + end


def different(count: int, first: int = 1) -> list[Example]:
    numbers = range(first, first + count)
    return [pair(at, sentence(at, 12, "?"), sentence(at + 10**6)) for at in numbers]


def found(examples: list[Example]) -> dict[str, Problem]:
    problems = check_examples(examples, "rows.jsonl")
    assert all(one.code in CODES and one.what and one.where and one.fix for one in problems)
    return {one.code: one for one in problems}


def test_different_rows_have_no_findings():
    assert found(different(200)) == {}


def test_near_duplicates_are_found_and_counted():
    rows = different(100)
    for at in range(10):  # one word of 37 changed, other case, other punctuation
        asked, answer = (turn["content"] for turn in rows[at].messages)
        rows.append(pair(101 + at, asked.upper().replace("?", " ?!"), answer.rstrip(".") + " oak"))
    problem = found(rows)["near_duplicates"]
    assert problem.rows == tuple(range(101, 111)) and problem.switches == ("keep_one",)
    assert "Leaving the 10 out keeps 100 of 110 rows." in problem.fix


def test_rows_that_share_half_of_their_words_are_not_near_duplicates():
    rows = different(100)
    for at in range(10):
        asked, answer = (turn["content"] for turn in rows[at].messages)
        rows.append(pair(101 + at, asked, answer[: len(answer) // 2] + sentence(at + 5_000, 12)))
    assert "near_duplicates" not in found(rows)


def test_a_long_template_around_short_rows_does_not_make_them_alike():
    task = "Classify the mood of the following text as good or bad and answer in one word. " * 3
    rows = [pair(at, f"{task}{sentence(at, 9)}", f"{at % 2}") for at in range(1, 101)]
    assert "near_duplicates" not in found(rows)


def test_near_duplicates_without_spaces_between_words():
    signs = [chr(0x4E00 + at) for at in range(900)]
    texts = ["".join(random.Random(at).choices(signs, k=60)) for at in range(60)]
    rows = [pair(at + 1, "问题" + text[:20], text) for at, text in enumerate(texts)]
    rows.append(pair(61, "问题" + texts[3][:20], texts[3][:-2] + "尾巴"))
    assert found(rows)["near_duplicates"].rows == (61,)


def test_case_58_advice_on_duplicates_is_computed_from_the_rows():
    rows = different(863)
    rows += [
        pair(863 + at, *(turn["content"] for turn in rows[at].messages)) for at in range(1, 38)
    ]
    problem = found(rows)["duplicates"]
    assert problem.count == 37 and "Leaving the 37 out keeps 863 of 900 rows." in problem.fix
    alone = found([pair(at, "a", "b") for at in range(1, 31)])["duplicates"]
    assert alone.what == "All rows are the same." and "keeps 1 of 30" in alone.fix


def test_one_answer_to_many_prompts():
    rows = different(90) + [
        pair(91 + at, sentence(at + 400, 12), "I do not know.") for at in range(10)
    ]
    problem = found(rows)["same_answer"]
    assert problem.count == 10 and "10 of 100 rows" in problem.fix
    labels = [pair(at, sentence(at, 12), ("good", "bad")[at % 2]) for at in range(1, 101)]
    assert "same_answer" not in found(labels), "few labels are a task, not a fault"


def test_short_answers_beside_long_ones():
    rows = different(97) + [pair(98 + at, sentence(at + 400, 12), f"ok {at}") for at in range(3)]
    problem = found(rows)["short_answers"]
    assert problem.rows == (98, 99, 100) and "half of all answers have" in problem.fix
    short = [pair(at, sentence(at, 12), f"ok {at}") for at in range(1, 101)]
    assert "short_answers" not in found(short)


def test_answers_cut_in_mid_sentence():
    rows = different(95) + [
        pair(96 + at, sentence(at, 12), sentence(at + 700, end=" and")) for at in range(5)
    ]
    problem = found(rows)["cut_answers"]
    assert problem.rows == (96, 97, 98, 99, 100) and "95 of 100 longer answers" in problem.fix
    without = [pair(at, sentence(at, 12), sentence(at + 700, end=" and")) for at in range(1, 101)]
    assert "cut_answers" not in found(without), "where no answer has an end mark, none is missing"


def test_what_ends_without_a_mark_and_is_not_cut():
    text = "The answer to this question is one of the following, as far as I know it. "
    whole = [
        "- first\n- second thing of the list", "Title\n3. Blueberry", "#PuppyLove",
        "https://example.org/a-page", "as he said. -C. Lewis", "It is (210 - 32) * 5/9 = 98.9°C",
        "Done!", "“Done.”", "```\ncode\n```", "a table\n| a | b |", "这是一个很长的句子",
    ]  # fmt: skip
    for end in whole:
        assert not ends_in_mid_sentence(text + end), end
    for end in (
        "and then the",
        "but while Bitcoin",
        "one, two,",
        "\n\n" + text + "it’s a well-known",
    ):
        assert ends_in_mid_sentence(text + end), end
    assert not ends_in_mid_sentence("")


def test_answers_cut_at_one_length_name_that_length():
    rows = [
        pair(at, sentence(at, 12, "?"), sentence(at + 10**6, 60)[:400] + "x") for at in range(1, 41)
    ]
    rows += different(40, first=41)
    problem = found(rows)["cut_answers"]
    assert problem.rows == tuple(range(1, 41)) and "401 characters long" in problem.fix


def test_answers_in_another_language_than_their_prompt():
    english = "What is the name of the city that you would like to visit {}?"
    german = "Das ist nicht die Stadt, die ich mit dem Zug besuchen kann {}."
    rows = [
        pair(at, english.format(at), f"This is the city that I would visit {at}.")
        for at in range(88)
    ]
    rows += [pair(100 + at, english.format(100 + at), german.format(at)) for at in range(12)]
    problem = found(rows)["mixed_languages"]
    assert problem.count == 12 and "12 %" in problem.fix and "English to German 12" in problem.fix
    assert "mixed_languages" not in found(rows[:88])


def test_prompts_that_end_with_their_answer():
    rows = [pair(at, f"{sentence(at, 12)} Label: c{at}x", f"c{at}x") for at in range(1, 41)]
    assert found(rows)["leaked_labels"].count == 40
    rows = [pair(at, f"{sentence(at, 12)} yes or no", ("yes", "no")[at % 2]) for at in range(1, 41)]
    assert "leaked_labels" not in found(rows)


def test_case_57_each_oddity_of_roles_is_counted_with_its_first_rows():
    def chat(row, *roles):
        return Example(row, [{"role": role, "content": sentence(row, 9)} for role in roles], None)

    odd = {
        "A system message stands in the middle.": ("user", "system", "assistant"),
        "Two user messages in a row.": ("user", "user", "assistant"),
        "Two assistant messages in a row.": ("user", "assistant", "assistant"),
        "The conversation does not begin with the user.": ("assistant", "user", "assistant"),
        "The conversation does not end with an answer; its last message teaches nothing.": (
            "user",
            "assistant",
            "user",
        ),
    }
    rows = different(50)
    for number, roles in enumerate(odd.values()):
        rows += [chat(51 + 6 * number + at, *roles) for at in range(6)]
    problems = check_examples(rows, "rows.jsonl")
    for number, what in enumerate(odd):
        problem = next(one for one in problems if one.what == what)
        first = 51 + 6 * number
        assert problem.count == 6 and problem.rows == tuple(range(first, first + 6))
        ways = ("drop", "join") if what.startswith("Two ") else ("drop",)
        assert problem.code == "role_order" and problem.switches == ways
        assert (
            f"rows {first}, {first + 1}, {first + 2}, {first + 3}, {first + 4} and 1 more"
            in problem.where
        )


def test_batches_do_not_matter(monkeypatch):
    rows = different(60) + [pair(61, "lost \ufffd", "x@y.org"), different(1)[0]]
    whole = check_examples(rows, "x")
    monkeypatch.setattr("trainer_backend.data.checks.checker.BATCH_ROWS", 7)
    parts = check_examples(rows, "x")
    assert {(one.code, one.count) for one in whole} == {(one.code, one.count) for one in parts}


def test_findings_can_be_read_before_the_end():
    checker = Checker("x")
    assert checker.so_far() == []
    checker.see(pair(1, "lost \ufffd letter", "yes"))
    assert [(one.code, one.count) for one in checker.so_far()] == [("lost_letters", 1)]
    checker.see(pair(2, "lost \ufffd letter", "no"))
    assert [(one.code, one.count) for one in checker.so_far()] == [("lost_letters", 2)]
    checker.finish()


def test_statistics_count_what_there_is(tmp_path):
    checker = Checker("x", tmp_path)
    checker.see(pair(1, "What is the name of the city that you like?", "Das ist nicht die Stadt."))
    turns = [
        ("system", "s"),
        ("user", "uu"),
        ("assistant", "aaa"),
        ("user", "u"),
        ("assistant", "a"),
    ]
    checker.see(Example(2, [{"role": role, "content": text} for role, text in turns], None))
    checker.finish()
    found = read_statistics(tmp_path)
    assert found.rows == 2 and found.messages == 7
    assert found.roles == {"user": 3, "assistant": 3, "system": 1} and found.turns == {
        "1": 1,
        "2": 1,
    }
    assert found.prompt_languages == {"English": 1, "unknown": 1}
    assert found.answer_languages == {"German": 1, "unknown": 1}
    assert (
        found.answers.total == 24 + 4 and found.answers.longest == 24 and found.prompts.total == 47
    )
    assert sum(found.answers.counts) == 2 and found.answers.counts[EDGES.index(20)] == 1


def test_languages_have_names_and_are_few_enough_for_a_byte():
    assert (
        LANGUAGES[0] == "unknown" and len(LANGUAGES) == len(set(LANGUAGES)) < np.iinfo(np.uint8).max
    )
