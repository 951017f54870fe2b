"""What is shown of an evaluation: one rounding, one order, everywhere."""

import csv
import io

import pytest
from evaluated import asked, evaluation

from trainer_backend.evaluation import shown
from trainer_backend.evaluation.results import Metric, keep
from trainer_backend.runs.state import amend


def test_the_measure_of_the_verdict_comes_first_and_losses_last(run):
    found = shown.lines(evaluation(run))
    assert [(one.label, one.base, one.tuned, one.interval, one.winner) for one in found] == [
        ("Exact match", "12.5%", "50%", "+25 to +50 points", "tuned"),
        ("Token F1", "0.25", "0.62", "-0.12 to +0.50", ""),
        ("Loss", "2.5", "3.25", "+0.5 to +1", "base"),
    ]


@pytest.mark.parametrize(
    "better, interval, who",
    [
        ("higher", (0.1, 0.2), "tuned"),
        ("higher", (-0.2, -0.1), "base"),
        ("higher", (0.0, 0.2), ""),
        ("lower", (-0.2, -0.1), "tuned"),
        ("lower", (0.1, 0.2), "base"),
    ],
)
def test_who_is_better_is_said_where_the_interval_leaves_no_doubt(better, interval, who):
    assert shown.winner(Metric(0.5, 0.5, better, interval, 8)) == who


def test_the_worst_rows_come_first_and_those_that_got_worse_before_them(run):
    assert [one.row for one in shown.worst_first(evaluation(run))] == [3, 2, 4, 1]
    losses = [asked(1, 0, 0), asked(2, 0, 0)]
    for one, value in zip(losses, (1.0, 2.0), strict=True):
        one.scores["loss"] = {"base": 1.0, "tuned": value}
    found = shown.worst_first(evaluation(run, main="loss", examples=losses))
    assert [one.row for one in found] == [2, 1]


def test_the_csv_has_a_row_a_question_and_no_formula(run):
    rows = list(csv.DictReader(io.StringIO(shown.answers_csv(evaluation(run)))))
    assert [row["row"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[0]["base"] == "'=no" and rows[0]["tuned"] == "1! or so"
    assert (rows[0]["exact_match_base"], rows[0]["exact_match_tuned"]) == ("0", "1")
    assert "loss_base" not in rows[0], "there is no loss of each row"


def test_a_run_of_an_earlier_version_shows_its_right_answers(run):
    assert shown.said_first(run) == []
    amend(run.dir, answers={"rows": 10, "base": 0.1, "tuned": 0.9})
    assert shown.said_first(run) == ["Right answers on 10 held-out rows: base 10%, tuned 90%."]
    keep(run, evaluation(run))
    assert shown.said_first(run) == [
        "It learned its training rows by heart.",
        "Better: Exact match 12.5% → 50%.",
    ]
    whole, head = (shown.with_evaluations(run, examples=each) for each in (True, False))
    assert len(whole["evaluations"][0].pop("examples")) == 4 and whole == head
