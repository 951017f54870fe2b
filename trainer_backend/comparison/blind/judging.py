"""A judge votes on the questions of a blind test: each verdict is kept at once, nothing twice.

It sees what the person sees, and the row's own answer as the one that is known to be good.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from trainer_backend.comparison.blind.blind_test import (
    JUDGE,
    LEFT,
    RIGHT,
    TIE,
    BlindTest,
    JudgeFacts,
    Question,
    Vote,
)
from trainer_backend.comparison.blind.keeping import change, open_test
from trainer_backend.comparison.blind.voting import with_vote
from trainer_backend.comparison.judge import Asking, Judge, Pair, Stopped, Verdict
from trainer_backend.errors import UserError
from trainer_backend.models.loaded.answer_parts import Answer, calls_of
from trainer_backend.runs.run import Run

GIVES_UP_AFTER = 5  # answers of the first ones that cannot be read
CHOICE = {"one": LEFT, "other": RIGHT, "tie": TIE}


def judge_test(run: Run, test_id: str, asking: Asking) -> Iterator[BlindTest]:
    """Ask the judge about every answered question it has not voted on; yields after each.

    When it cannot be asked, that is kept in the test (`judge.problem`) and the work ends; so it
    does when `asking.stop` is set. Raises UserError if the test cannot be written.
    """
    test = _begin(run, test_id, asking.judge)
    yield test
    for at in test.open_for(JUDGE):
        if not test.questions[at].is_answered:
            continue
        try:
            verdict = asking.compare(pair_of(test.questions[at]))
        except Stopped:
            return
        except UserError as error:
            yield change(run, test_id, partial(_with_problem, error=error))
            return
        test = keep_verdict(run, test_id, at, verdict)
        yield test
        unread = len(test.judge.unusable) if test.judge else 0
        if unread >= GIVES_UP_AFTER and not test.votes_by(JUDGE):
            yield change(run, test_id, partial(_with_problem, error=_nonsense(asking.judge)))
            return


def _nonsense(judge: Judge) -> UserError:
    return UserError(
        "The judge gives no verdict that can be read.",
        f"{judge.model} at {judge.host}",
        "Choose another model.",
    )


def open_pairs(run: Run, test_id: str, judge: Judge | None = None) -> int:
    """How many answered questions a judge would be asked about; all but those it voted on."""
    test = open_test(run, test_id)
    if test.judge:
        same = judge is None or _is_same(test, judge)
        test = replace(test, judge=None) if same else _without_judge(test)
    return sum(test.questions[at].is_answered for at in test.open_for(JUDGE))


def _begin(run: Run, test_id: str, judge: Judge) -> BlindTest:
    """The test with this judge; the votes of another one are forgotten."""

    def edit(test: BlindTest) -> BlindTest:
        if _is_same(test, judge) and test.judge:
            return replace(test, judge=replace(test.judge, problem="", unusable=[]))
        return replace(_without_judge(test), judge=JudgeFacts(judge.model, judge.host))

    return change(run, test_id, edit)


def _is_same(test: BlindTest, judge: Judge) -> bool:
    found = test.judge
    return found is not None and (found.model, found.host) == (judge.model, judge.host)


def _without_judge(test: BlindTest) -> BlindTest:
    return replace(test, judge=None, votes=[one for one in test.votes if one.by != JUDGE])


def _with_problem(test: BlindTest, error: UserError) -> BlindTest:
    if test.judge is None:
        return test
    return replace(test, judge=replace(test.judge, problem=f"{error.what} {error.where}"))


def keep_verdict(run: Run, test_id: str, at: int, verdict: Verdict) -> BlindTest:
    """Keep what the judge said of question `at`; the first answer of the pair stood left."""

    def edit(test: BlindTest) -> BlindTest:
        if verdict.prefers is not None:
            given = Vote(at, CHOICE[verdict.prefers], JUDGE, flipped=verdict.flipped)
            return with_vote(test, given)
        if test.judge is None or at in test.judge.unusable:
            return test
        return replace(test, judge=replace(test.judge, unusable=[*test.judge.unusable, at]))

    return change(run, test_id, edit)


def pair_of(question: Question) -> Pair:
    """A question as the judge sees it, the left answer first."""
    said = "\n\n".join(f"{_role(one)}: {_words(one)}" for one in question.messages)
    left, right = (question.shown(place).in_words() for place in (LEFT, RIGHT))
    return Pair(said, left, right, question.expected)


def _role(message: dict) -> str:
    return str(message["role"]).capitalize()


def _words(message: dict) -> str:
    content = message.get("content")
    text = content if isinstance(content, str) else ""
    return Answer(text, calls=calls_of(message)).in_words()
