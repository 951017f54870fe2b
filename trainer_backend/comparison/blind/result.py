"""The result of a blind test: win rate, its interval, whether the votes are enough to tell.

Ties are left out of the win rate and counted beside it, as in the sign test: splitting them would
only blur the preference (J. Putter, “The Treatment of Ties in Some Nonparametric Tests”, Annals of
Mathematical Statistics 26, 1955). Nothing is read or written here.
"""

from dataclasses import asdict, dataclass
from typing import Any

from trainer_backend.comparison.blind.agreement import Agreement, agreement
from trainer_backend.comparison.blind.blind_test import (
    FIRST,
    JUDGE,
    PERSON,
    SECOND,
    TIE,
    BlindTest,
    Side,
)
from trainer_backend.evaluation.measures import wilson

MOST_VOTES = 1_000  # more are not worth a number


@dataclass(frozen=True)
class Count:
    """How one voter's votes fell. `rate` is wins / (wins + losses), `interval` its 95 % interval.

    Wins are those of the first side. `same` are ties because both answers are the same; `ties`
    includes them. `enough`: the interval leaves one half out. `more` is about how many more votes
    at this rate would be enough: 0 if they are, None if more than MOST_VOTES or never.
    """

    wins: int
    losses: int
    ties: int
    same: int
    open: int
    rate: float | None
    interval: tuple[float, float] | None
    enough: bool
    more: int | None

    @property
    def decided(self) -> int:
        """Votes that prefer one side."""
        return self.wins + self.losses


@dataclass(frozen=True)
class JudgeCount:
    """The judge's count, and how far it can be trusted.

    `flips` of `asked` pairs were preferred differently when their order was swapped.
    """

    model: str
    host: str
    count: Count
    asked: int
    flips: int
    unusable: int
    problem: str
    agreement: Agreement


def count(test: BlindTest, by: str = PERSON) -> Count:
    """How a voter's votes fell."""
    won = [test.questions[at].winner(one.choice) for at, one in test.votes_by(by).items()]
    same = sum(one.is_equal and not one.left_out for one in test.questions)
    wins, losses = won.count(FIRST), won.count(SECOND)
    interval = wilson(wins, wins + losses) if wins + losses else None
    enough = interval is not None and not interval[0] <= 0.5 <= interval[1]
    ties = won.count(TIE) + same
    rate = wins / (wins + losses) if wins + losses else None
    more = 0 if enough else more_votes(wins, losses, ties)
    left = len(test.open_for(by))
    return Count(wins, losses, ties, same, left, rate, interval, enough, more)


def count_of_judge(test: BlindTest) -> JudgeCount | None:
    """How the judge's votes fell; None where none was asked."""
    if test.judge is None:
        return None
    votes = test.votes_by(JUDGE)
    flips = sum(one.flipped for one in votes.values())
    facts = test.judge
    return JudgeCount(
        *(facts.model, facts.host, count(test, JUDGE), len(votes), flips, len(facts.unusable)),
        facts.problem,
        agreement(_winners(test, PERSON), _winners(test, JUDGE)),
    )


def _winners(test: BlindTest, by: str) -> dict[int, str]:
    return {at: test.questions[at].winner(one.choice) for at, one in test.votes_by(by).items()}


def more_votes(wins: int, losses: int, ties: int) -> int | None:
    """About how many more votes at these rates would be enough to tell; None if too many."""
    decided = wins + losses
    if not decided or wins == losses:
        return None
    for number in range(decided + 1, MOST_VOTES + 1):
        low, high = wilson(wins * number / decided, number)
        if not low <= 0.5 <= high:
            return round((number - decided) * (decided + ties) / decided)
    return None


def side_words(side: Side, other: Side) -> str:
    """A side's name: that of its run, with the id where both are called alike."""
    return f"{side.name} ({side.run[-6:]})" if other.name == side.name else side.name


def names(test: BlindTest) -> dict[str, str]:
    """{FIRST, SECOND: the name of the side}: the runs, or the tuned and the base model of one."""
    first, second = test.sides
    if test.is_of_one_run:
        return {FIRST: "Tuned model", SECOND: "Base model"}
    return {FIRST: side_words(first, second), SECOND: side_words(second, first)}


def verdict(found: Count, called: dict[str, str]) -> str:
    """The result in a sentence: who was preferred, or that the votes are too few to tell."""
    if not found.decided:
        return _undecided(found)
    assert found.interval is not None and found.rate is not None  # some votes decide
    better = called[FIRST] if found.wins >= found.losses else called[SECOND]
    if found.enough:
        return f"“{better}” is preferred: the interval leaves one half out."
    if found.wins == found.losses:
        return "Both were preferred equally often, so these votes show no difference."
    more = found.more
    votes = "1 more vote" if more == 1 else f"{more:,} more votes" if more else ""
    about = f"about {votes}" if votes else f"more than {MOST_VOTES:,} votes"
    return (
        f"Too few votes to tell: “{better}” is ahead, but the interval includes one half. "
        f"At this rate {about} would be enough."
    )


def _undecided(found: Count) -> str:
    if not found.ties:
        return "No votes yet."
    if found.same == found.ties:
        return "Both models gave the same answers, so there was nothing to choose."
    return "Every vote was a tie: no difference was seen."


def result_dict(test: BlindTest) -> dict[str, Any]:
    """The result as JSON, without texts: what `show` and `blind --json` print."""
    found, judged = count(test), count_of_judge(test)
    called = names(test)
    sides = [
        {"run": one.run, "name": one.name, "which": one.which, "checkpoint": one.checkpoint}
        for one in test.sides
    ]
    return {
        "id": test.id,
        "run": test.run,
        "sides": sides,
        "created_at": test.created_at,
        "dataset": test.dataset or None,
        "questions": len(test.questions),
        "left_out": sum(bool(one.left_out) for one in test.questions),
        **_counted(found),
        "sentence": verdict(found, called),
        "judge": {
            "model": judged.model,
            "host": judged.host,
            **_counted(judged.count),
            "sentence": verdict(judged.count, called),
            "asked": judged.asked,
            "flips": judged.flips,
            "unusable": judged.unusable,
            "problem": judged.problem or None,
            "agreement": asdict(judged.agreement),
        }
        if judged
        else None,
        "notes": test.notes,
    }


def _counted(found: Count) -> dict[str, Any]:
    return {
        "wins": found.wins,
        "losses": found.losses,
        "ties": found.ties,
        "same_answers": found.same,
        "open": found.open,
        "win_rate": found.rate,
        "interval": list(found.interval) if found.interval else None,
        "enough": found.enough,
        "more_votes": found.more,
    }
