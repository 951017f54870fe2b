"""The win rate, its interval, and when the votes are enough to tell."""

from dataclasses import replace

import numpy as np
import pytest

from trainer_backend.comparison.blind.agreement import agreement
from trainer_backend.comparison.blind.blind_test import JudgeFacts, Vote
from trainer_backend.comparison.blind.result import (
    MOST_VOTES,
    count,
    count_of_judge,
    more_votes,
    names,
    result_dict,
    verdict,
)
from trainer_backend.evaluation.measures import wilson
from trainer_backend.models.loaded.answer_parts import Answer


def with_winners(test, winners: str, by: str = "person"):
    """The test with votes: w for the first side, l for the second, t for a tie, . for none."""
    votes = []
    for at, letter in enumerate(winners):
        swapped = test.questions[at].swapped
        places = {"w": "right" if swapped else "left", "l": "left" if swapped else "right"}
        if letter != ".":
            votes.append(Vote(at, places.get(letter, "tie"), by))
    return replace(test, votes=[*test.votes, *votes])


def test_the_interval_of_a_win_rate_holds_it_as_often_as_it_says():
    """Simulated tests of 60 votes, a fifth of them ties, at rates from 0.5 to 0.9."""
    dice = np.random.default_rng(1)
    held = []
    for rate in np.linspace(0.5, 0.9, 9):
        for _ in range(400):
            decided = dice.binomial(60, 0.8)
            low, high = wilson(int(dice.binomial(decided, rate)), int(decided))
            held.append(low <= rate <= high)
    assert 0.93 <= np.mean(held) <= 0.97


def test_ties_stand_beside_the_win_rate(kept):
    found = count(with_winners(kept, "wwwwwwtttl"))
    assert (found.wins, found.losses, found.ties, found.open) == (6, 1, 3, 0)
    assert found.rate == pytest.approx(6 / 7)
    assert found.interval == pytest.approx((0.4869, 0.9743), abs=1e-4)
    assert not found.enough


def test_enough_votes_are_said_and_how_many_more(kept):
    clear = count(with_winners(kept, "wwwwwwwwwl"))
    assert clear.enough and clear.more == 0
    called = names(kept)
    assert verdict(clear, called).startswith(f"“{called['first']}” is preferred")
    close = count(with_winners(kept, "wwwwwwtttl"))
    low, high = wilson(6 * 8 / 7, 8)
    assert low > 0.5 and close.more == round(1 * 10 / 7)
    assert "Too few votes to tell" in verdict(close, called)
    assert close.more == 1 and "about 1 more vote would be enough" in verdict(close, called)
    lost = count(with_winners(kept, "llllllllll"))
    assert lost.enough and verdict(lost, called).startswith(f"“{called['second']}” is preferred")


@pytest.mark.parametrize("wins, losses", [(5, 5), (0, 0), (501, 499)])
def test_no_number_is_promised_where_none_would_do(wins, losses):
    assert more_votes(wins, losses, 0) is None


def test_more_votes_at_the_same_rate_are_just_enough():
    for wins, losses in ((3, 1), (11, 9), (30, 26)):
        more = more_votes(wins, losses, 0)
        n = wins + losses + more
        rate = wins / (wins + losses)
        assert n <= MOST_VOTES and wilson(rate * n, n)[0] > 0.5 >= wilson(rate * (n - 1), n - 1)[0]


def test_same_answers_are_a_tie_by_themselves(kept):
    one = kept.questions[2]
    same = replace(one, answers=dict.fromkeys(("first", "second"), Answer("the same")))
    test = kept.with_question(2, same)
    assert 2 not in test.open_for("person")
    found = count(with_winners(test, "ww.ww"))
    assert (found.ties, found.same, found.open) == (1, 1, 5)
    cut = replace(
        one, answers={"first": Answer("the same", cut=True), "second": Answer("the same")}
    )
    assert cut.is_equal


def test_the_judges_agreement_is_over_what_both_voted_on(kept):
    test = with_winners(with_winners(kept, "wwllt"), "wwlwt.", by="judge")
    test = replace(test, judge=JudgeFacts("m", "host", unusable=[6]))
    judged = count_of_judge(test)
    assert judged.agreement.n == 5 and judged.agreement.share == pytest.approx(0.8)
    # chance: w 2/5 x 3/5 + l 2/5 x 1/5 + t 1/5 x 1/5 = 9/25
    assert judged.agreement.kappa == pytest.approx((0.8 - 0.36) / (1 - 0.36))
    assert judged.asked == 5 and judged.unusable == 1
    assert count(test).decided == 4  # a judge's votes are not the person's


def test_kappa_is_not_claimed_where_chance_explains_all():
    assert agreement({}, {1: "first"}).kappa is None
    alike = agreement({1: "first", 2: "first"}, {1: "first", 2: "first"})
    assert alike.share == 1 and alike.kappa is None


def test_the_result_as_json_holds_no_text(kept):
    found = result_dict(with_winners(kept, "wwwl"))
    assert found["win_rate"] == 0.75 and found["open"] == 6 and found["judge"] is None
    assert "Say" not in str(found) and "tuned 1" not in str(found)
    assert [side["which"] for side in found["sides"]] == ["tuned", "base"]
