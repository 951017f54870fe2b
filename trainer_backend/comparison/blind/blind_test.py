"""A blind test as plain data: its two models, its questions, the order shown, the votes.

Everything that a reload needs is in it. Nothing is asked, counted or written here.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from trainer_backend.home import new_id
from trainer_backend.models.loaded.answer_parts import Answer

KIND = "blind"
LEFT, RIGHT, TIE = "left", "right", "tie"
CHOICES = (LEFT, RIGHT, TIE)
PERSON, JUDGE = "person", "judge"
FIRST, SECOND = "first", "second"  # the two sides; which of them stands left differs by question
SIDES = (FIRST, SECOND)


@dataclass(frozen=True)
class Side:
    """One of the two models and how it is asked; frozen with the test, so that both stay the same.

    `which` is “tuned” or “base” (the base model of that run). `system` is put before a
    conversation that has no system text; `tools` are given with prompts of one's own.
    """

    run: str
    name: str
    which: str = "tuned"
    checkpoint: int | None = None
    system: str = ""
    tools: list[Any] = field(default_factory=list)
    thinking: str = "auto"
    control_tokens: str = "auto"


@dataclass(frozen=True)
class Question:
    """What both models are asked, and what they answered.

    `messages` is all that is said before the answer. `row` is the number in the file, None for a
    prompt of one's own. `swapped`: the second side stands left. `images` are names of stored images
    of the dataset. `left_out` says why the question counts for nothing ("": it counts).
    """

    messages: list[dict[str, Any]]
    row: int | None = None
    tools: list[Any] = field(default_factory=list)
    expected: str = ""
    images: list[str] = field(default_factory=list)
    swapped: bool = False
    answers: dict[str, Answer] = field(default_factory=dict)
    left_out: str = ""

    @property
    def is_answered(self) -> bool:
        """Whether both models have answered."""
        return all(side in self.answers for side in SIDES)

    @property
    def is_equal(self) -> bool:
        """Whether both answers are the same, so that nothing is left to choose."""
        return self.is_answered and self.answers[FIRST] == self.answers[SECOND]

    @property
    def is_open(self) -> bool:
        """Whether a vote on it is wanted, as far as is known before both answers are there."""
        return not (self.left_out or self.is_equal)

    def side_of(self, place: str) -> str:
        """Which side stands left or right."""
        return SIDES[(place == RIGHT) != self.swapped]

    def shown(self, place: str) -> Answer:
        """The answer that stands left or right."""
        return self.answers[self.side_of(place)]

    def winner(self, choice: str) -> str:
        """The side that a vote prefers, or a tie."""
        return TIE if choice == TIE else self.side_of(choice)


@dataclass(frozen=True)
class Vote:
    """One vote; of one voter the last one on a question counts.

    `flipped`: a judge that was asked twice preferred different answers, so it is a tie.
    """

    question: int  # its index
    choice: str  # one of CHOICES, as the answers were shown
    by: str = PERSON
    at: float = field(default_factory=time.time)
    flipped: bool = False


@dataclass(frozen=True)
class JudgeFacts:
    """What is known of the judge that was asked; never its key.

    `unusable` are the questions to which it gave no verdict that can be read, `problem` is why it
    ended early ("": it did not).
    """

    model: str
    host: str
    unusable: list[int] = field(default_factory=list)
    problem: str = ""


@dataclass(frozen=True)
class BlindTest:
    """Two models, unnamed and shuffled, and who was preferred. The first side is the run's own."""

    run: str
    sides: tuple[Side, Side]
    questions: list[Question]
    votes: list[Vote] = field(default_factory=list)
    judge: JudgeFacts | None = None
    seed: int = 0
    dataset_id: str = ""
    dataset: str = ""  # its name; "" for prompts of one's own
    notes: list[str] = field(default_factory=list)  # what was left out or chosen
    ended: bool = False  # the person has asked for the names
    created_at: float = field(default_factory=time.time)
    id: str = field(default_factory=lambda: new_id(KIND))

    @property
    def is_of_one_run(self) -> bool:
        """Whether it is the base against the tuned model of one checkpoint."""
        return self.sides[0].run == self.sides[1].run

    def side(self, name: str) -> Side:
        """The side FIRST or SECOND."""
        return self.sides[SIDES.index(name)]

    def votes_by(self, voter: str) -> dict[int, Vote]:
        """{index of the question: vote} of a voter, without questions that no longer count."""
        own = {one.question: one for one in self.votes if one.by == voter}
        return {at: one for at, one in own.items() if self.questions[at].is_open}

    def open_for(self, voter: str) -> list[int]:
        """The questions on which a voter has not voted yet."""
        voted = self.votes_by(voter)
        unusable = self.judge.unusable if self.judge and voter == JUDGE else []
        known = {*voted, *unusable}
        return [n for n, one in enumerate(self.questions) if one.is_open and n not in known]

    @property
    def is_over(self) -> bool:
        """Whether the names may be seen: the person has asked for them, or nothing is open."""
        return self.ended or not self.open_for(PERSON)

    def with_question(self, at: int, question: Question) -> "BlindTest":
        """The test with another question in the place `at`."""
        questions = [question if n == at else one for n, one in enumerate(self.questions)]
        return replace(self, questions=questions)

    def to_dict(self) -> dict[str, Any]:
        """The test as JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "BlindTest":
        """A test from JSON; what a newer version added is left out.

        Raises KeyError, TypeError or ValueError for one that is damaged.
        """
        known = _known(cls, values)
        first, second = (Side(**_known(Side, one)) for one in known["sides"])
        known["sides"] = (first, second)
        known["questions"] = [_question(one) for one in known["questions"]]
        known["votes"] = [Vote(**_known(Vote, one)) for one in known.get("votes", [])]
        if any(not 0 <= one.question < len(known["questions"]) for one in known["votes"]):
            raise ValueError("a vote on a question that is not there")
        if known.get("judge"):
            known["judge"] = JudgeFacts(**_known(JudgeFacts, known["judge"]))
        return cls(**known)


def _question(values: Mapping[str, Any]) -> Question:
    known = _known(Question, values)
    answers = {side: Answer(**_known(Answer, one)) for side, one in known["answers"].items()}
    return Question(**{**known, "answers": answers})


def _known(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    return {one.name: values[one.name] for one in fields(kind) if one.name in values}
