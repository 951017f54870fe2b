"""Better, worse or no clear difference: the words, the warnings, and what must not pass."""

import random

import pytest

from trainer_backend.evaluation.measures import (
    Learning,
    Verdict,
    choose_measures,
    compare_answers,
    verdict_of,
)
from trainer_backend.evaluation.results import VERDICTS, Metric
from trainer_backend.models.loaded.answer_parts import Answer

WORDS = "parcel monday money card store reply week refund broken colour size weight".split()
FORM = "Thank you for writing to us. We looked into it: {}. Please tell us if anything is unclear."


def judged(expected: list[str], base: list[str], tuned: list[str]) -> Verdict:
    answers = [[Answer(text) for text in part] for part in (expected, base, tuned)]
    choice = choose_measures(answers[0])
    found = compare_answers(choice, *answers)
    return verdict_of(choice.main, found.metrics, found.control)


def replies(rows: int, seed: int) -> list[str]:
    """Texts of one form, each with six words of its own."""
    drawn = random.Random(seed)
    return [FORM.format(" ".join(drawn.sample(WORDS, 6))) for _ in range(rows)]


def test_a_run_that_learned_is_better() -> None:
    expected = [str(number * 7) for number in range(40)]
    base = expected[:2] + ["I do not know."] * 38
    tuned = [*expected[:38], "1", "2"]
    assert judged(expected, base, tuned) == Verdict(
        "better", "Better: 38 of 40 answers match exactly, the base model had 2.", []
    )
    worse = judged(expected, tuned, base)
    words = "2 of 40 answers match exactly, the base model had 38."
    assert worse == Verdict("worse", f"Worse: {words}", [f"The run made the model worse: {words}"])
    assert worse.verdict in VERDICTS


def test_a_run_on_texts_that_learned_what_to_say_is_better() -> None:
    expected = replies(40, 0)
    found = judged(expected, ["I cannot help with that."] * 40, expected[:30] + replies(10, 1))
    assert found.verdict == "better" and found.warnings == []
    assert found.sentence.startswith("Better: token F1 with the expected texts is 0.9")


@pytest.mark.parametrize(("rows", "seed"), [(16, 0), (16, 1), (40, 2), (40, 3), (200, 4)])
def test_a_run_on_shuffled_texts_is_not_better(rows: int, seed: int) -> None:
    """It has the form and the usual words, and the answer of any other row."""
    expected = replies(rows, seed)
    found = judged(expected, ["I cannot help with that."] * rows, replies(rows, seed + 100))
    assert found.verdict == "no clear difference"
    assert "the form of the answers" in found.sentence and found.warnings == [
        "The answers fit other rows nearly as well as their own: these rows show that the run "
        "learned the form of the answers, not which answer belongs to which prompt."
    ]


@pytest.mark.parametrize("answer", ["most frequent", "as often as in the data"])
def test_a_run_on_shuffled_labels_is_not_better(answer: str) -> None:
    """The base model writes sentences; the run learned the labels' words and their shares."""
    better = 0
    for seed in range(40):
        drawn = random.Random(seed)
        expected = drawn.choices(["refund", "bug", "praise"], [7, 2, 1], k=40)
        tuned = ["refund"] * 40 if answer == "most frequent" else drawn.sample(expected, 40)
        better += judged(expected, ["It is hard to say."] * 40, tuned).verdict == "better"
    assert better <= 2, "95 % intervals let 1 of 40 pass"


def test_a_run_on_shuffled_answers_of_a_good_base_model_is_worse() -> None:
    expected = [str(number) for number in range(40)]
    found = judged(expected, expected, expected[1:] + expected[:1])
    assert found.verdict == "worse"


def test_where_all_answers_are_the_same_their_form_is_the_task() -> None:
    found = judged(["OK"] * 40, ["Well, OK then"] * 40, ["OK"] * 40)
    assert found.sentence == "Better: 40 of 40 answers match exactly, the base model had 0."


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (1, "No clear difference: 1 of 1 answers match exactly, the base model had 0. "
            "One row cannot tell."),
        (5, "No clear difference: 5 of 5 answers match exactly, the base model had 0. "
            "5 rows cannot tell: at least 6 are needed."),
        (8, "Better: 8 of 8 answers match exactly, the base model had 0."),
    ],
)  # fmt: skip
def test_few_rows(rows: int, said: str) -> None:
    expected = [f"answer {number}" for number in range(rows)]
    assert judged(expected, ["?"] * rows, expected).sentence == said


def test_sixteen_rows_say_what_they_would_show() -> None:
    expected = [f"answer {number}" for number in range(16)]
    found = judged(expected, expected[:6] + ["?"] * 10, expected[:9] + ["?"] * 7)
    assert found.verdict == "no clear difference"
    assert found.sentence.startswith(
        "No clear difference: 9 of 16 answers match exactly, the base model had 6. "
        "So few rows cannot tell: only a difference of about 0.2"
    )


def test_no_rows_and_ties() -> None:
    assert judged([], [], []) == Verdict(
        "no clear difference", "No clear difference: no row could be scored by Token F1.", []
    )
    same = replies(40, 0)
    assert judged(same, same, same).verdict == "no clear difference"


def metric(base: float, tuned: float, better: str = "higher", half: float = 0.05) -> Metric:
    return Metric(base, tuned, better, (tuned - base - half, tuned - base + half), 40)


def test_free_text_where_two_measures_disagree() -> None:
    found = verdict_of("token_f1", {"token_f1": metric(0.3, 0.5), "chrf": metric(0.5, 0.3)})
    assert found.verdict == "no clear difference"
    assert found.sentence.endswith("chrF says the opposite: 0.30, the base model's 0.50.")


def test_the_loss_alone_never_decides() -> None:
    tied = {"exact_match": metric(0.5, 0.5), "loss": metric(2.0, 1.0, "lower")}
    assert verdict_of("exact_match", tied).verdict == "no clear difference"
    won = {"exact_match": metric(0.1, 0.9), "loss": metric(1.0, 2.0, "lower")}
    assert verdict_of("exact_match", won) == Verdict(
        "better",
        "Better: 36 of 40 answers match exactly, the base model had 4.",
        ["The loss on these rows is higher than the base model's: 2.00 against 1.00."],
    )


def test_a_run_that_knows_its_training_rows_by_heart_says_so() -> None:
    learning = Learning(0.05, ((10, 1.5), (20, 1.2), (40, 1.9)))
    found = verdict_of("exact_match", {"exact_match": metric(0.9, 0.2)}, learning=learning)
    assert found.warnings == [
        "The run made the model worse: 8 of 40 answers match exactly, the base model had 36.",
        "The run knows its training rows by heart: its loss is 0.05 on them and 1.90 on held-out "
        "rows.",
        "The evaluation loss rose from 1.20 at step 20 to 1.90: the run went on too long. The "
        "checkpoint of step 20 may answer better.",
    ]
    calm = Learning(0.9, ((10, 1.5), (20, 1.2), (40, 1.21)))
    assert verdict_of("exact_match", {"exact_match": metric(0.2, 0.9)}, None, calm).warnings == []
