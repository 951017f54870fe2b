"""Votes are kept, counted once, taken back, and never lost."""

import threading

import pytest

from trainer_backend.comparison.blind.blind_test import BlindTest
from trainer_backend.comparison.blind.keeping import change, open_test
from trainer_backend.comparison.blind.keeping import tests_of as kept_tests
from trainer_backend.comparison.blind.result import count
from trainer_backend.comparison.blind.voting import end, leave_out, next_question, take_back, vote
from trainer_backend.errors import UserError


def test_a_test_survives_a_reload_as_it_is(trained, kept):
    vote(trained, kept.id, 0, "left")
    again = open_test(trained, kept.id)
    assert [one.swapped for one in again.questions] == [one.swapped for one in kept.questions]
    assert next_question(again) == 1 and BlindTest.from_dict(again.to_dict()) == again


def test_a_vote_counts_for_the_side_that_stood_there(trained, kept):
    for at, question in enumerate(kept.questions):
        vote(trained, kept.id, at, "right" if question.swapped else "left")  # always the first side
    found = count(open_test(trained, kept.id))
    assert (found.wins, found.losses, found.ties, found.open) == (10, 0, 0, 0)


def test_a_second_vote_on_a_question_counts_once(trained, kept):
    for choice in ("left", "tie", "right"):
        test = vote(trained, kept.id, 4, choice)
    assert len(test.votes) == 1 and test.votes[0].choice == "right"
    found = count(test)
    assert found.decided == 1 and found.ties == 0 and found.open == 9


def test_votes_are_taken_back_the_last_one_first(trained, kept):
    vote(trained, kept.id, 3, "left")
    vote(trained, kept.id, 1, "tie")
    assert [take_back(trained, kept.id)[1] for _ in range(3)] == [1, 3, None]
    assert open_test(trained, kept.id).votes == []


def test_two_pages_that_vote_at_once_lose_no_vote(trained, kept):
    def page(start: int) -> None:
        for at in range(start, 10, 2):
            vote(trained, kept.id, at, "left")

    pages = [threading.Thread(target=page, args=(start,)) for start in (0, 1)]
    for one in pages:
        one.start()
    for one in pages:
        one.join()
    assert sorted(one.question for one in open_test(trained, kept.id).votes) == list(range(10))


@pytest.mark.parametrize("question, choice", [(10, "left"), (-1, "left"), (0, "both")])
def test_a_vote_on_nothing_is_refused(trained, kept, question, choice):
    with pytest.raises(UserError):
        vote(trained, kept.id, question, choice)
    assert open_test(trained, kept.id).votes == []


def test_what_is_left_out_counts_for_nothing(trained, kept):
    vote(trained, kept.id, 0, "left")
    test = leave_out(trained, kept.id, 0, "It was too long.")
    assert count(test).decided == 0 and next_question(test) == 1 and not test.is_over
    assert end(trained, kept.id).is_over


def test_a_damaged_file_is_no_test(trained, kept):
    path = next((trained.dir / "votes").glob("blind-*.json"))
    path.write_text(path.read_text().replace('"questions"', '"answers"'))
    assert kept_tests(trained) == []
    with pytest.raises(UserError, match="cannot be read"):
        open_test(trained, kept.id)
    with pytest.raises(UserError, match="no such blind test"):
        change(trained, "blind-0", lambda test: test)
    assert not list((trained.dir / "votes").glob("blind-0*"))
