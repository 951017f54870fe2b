"""Votes on a blind test: given, counted once, taken back; and which question comes next."""

from dataclasses import replace

from trainer_backend.comparison.blind.blind_test import CHOICES, PERSON, BlindTest, Vote
from trainer_backend.comparison.blind.keeping import change
from trainer_backend.errors import UserError
from trainer_backend.runs.run import Run


def vote(run: Run, test_id: str, question: int, choice: str, by: str = PERSON) -> BlindTest:
    """Keep a vote on a question (its index). A second one on the same question replaces the first.

    Raises UserError for a choice or a question that is not there or not answered yet.
    """

    def edit(test: BlindTest) -> BlindTest:
        known = 0 <= question < len(test.questions) and test.questions[question].is_answered
        if not known or choice not in CHOICES:
            raise UserError(
                "This vote cannot be counted.", f"question {question + 1}", "Reload the page."
            )
        return with_vote(test, Vote(question, choice, by))

    return change(run, test_id, edit)


def with_vote(test: BlindTest, given: Vote) -> BlindTest:
    """The test with a vote, in place of an earlier one by the same voter on the same question."""
    others = [one for one in test.votes if (one.by, one.question) != (given.by, given.question)]
    return replace(test, votes=[*others, given])


def take_back(run: Run, test_id: str, by: str = PERSON) -> tuple[BlindTest, int | None]:
    """Remove a voter's last vote; returns the test and the question it was on, None without any."""
    gone: list[int] = []

    def edit(test: BlindTest) -> BlindTest:
        own = [one for one in test.votes if one.by == by]
        if not own:
            return test
        last = own[-1]
        gone.append(last.question)
        return replace(test, votes=[one for one in test.votes if one is not last], ended=False)

    test = change(run, test_id, edit)
    return test, gone[0] if gone else None


def leave_out(run: Run, test_id: str, question: int, why: str) -> BlindTest:
    """Let a question count for nothing, and keep why."""

    def edit(test: BlindTest) -> BlindTest:
        left = replace(test.questions[question], left_out=why)
        return test.with_question(question, left)

    return change(run, test_id, edit)


def end(run: Run, test_id: str) -> BlindTest:
    """Show the names now, whatever is still open."""
    return change(run, test_id, lambda test: replace(test, ended=True))


def go_on(run: Run, test_id: str) -> BlindTest:
    """Take up a test again that was ended early."""
    return change(run, test_id, lambda test: replace(test, ended=False))


def next_question(test: BlindTest, after: int = -1, by: str = PERSON) -> int | None:
    """The next question without a vote behind `after`, then from the start; None: all voted."""
    waiting = test.open_for(by)
    return next((one for one in waiting if one > after), waiting[0] if waiting else None)
