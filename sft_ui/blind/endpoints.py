"""What the browser may ask of blind tests: choices, questions, votes, the result, a judge.

Ids come in, never paths; of an open question no name goes out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import cast

import gradio as gr
from starlette.requests import HTTPConnection

from sft_ui.blind.correcting import keep_corrected
from sft_ui.blind.judge_form import is_personal, judge_named, listed_judges
from sft_ui.blind.under_way import UnderWay
from sft_ui.blind.views import View, question_view, result_view, setup_view, votes_csv
from sft_ui.context import Studio
from trainer_backend.comparison.blind import (
    BlindTest,
    Wanted,
    end,
    go_on,
    keep,
    leave_out,
    new_test,
    next_question,
    open_test,
    take_back,
    vote,
)
from trainer_backend.comparison.blind.judging import open_pairs
from trainer_backend.comparison.judge import where_texts_go
from trainer_backend.disk import for_people
from trainer_backend.errors import UserError
from trainer_backend.runs import Run, open_run

Endpoint = Callable[..., View]


def answered(endpoint: Endpoint) -> Endpoint:
    """An endpoint that answers a user's mistake as {"error": {"what", "where", "fix"}}."""

    @wraps(endpoint)
    def safe(asked: dict, *more: gr.Request) -> View:
        try:
            return endpoint(asked if isinstance(asked, dict) else {}, *more)
        except (UserError, OSError) as error:
            return {"error": for_people(error).to_dict()}

    return safe


@dataclass(frozen=True)
class Endpoints:
    """The endpoints of one page."""

    studio: Studio
    under_way: UnderWay

    def all(self) -> list[Endpoint]:
        """The functions for the component; the browser calls them by their names."""
        voting = (self.blind_choices, self.blind_start, self.blind_question, self.blind_vote)
        more = (self.blind_skip, self.blind_take_back, self.blind_go_on, self.blind_correct)
        after = (self.blind_result, self.blind_csv)
        judge = (self.blind_judge, self.blind_judges, self.blind_judge_stop)
        return [answered(one) for one in (*voting, *more, *after, *judge)]

    def blind_choices(self, asked: dict) -> View:
        """What a new test can be made of, and the earlier tests."""
        return setup_view(open_run(self.studio.home, str(asked.get("run"))))

    def blind_start(self, asked: dict) -> View:
        """Make a test and show its first question."""
        run = open_run(self.studio.home, str(asked.get("run")))
        other = str(asked.get("against") or "")
        prompts = str(asked.get("prompts") or "").splitlines()
        against = open_run(self.studio.home, other) if other else None
        if asked.get("own") and not any(map(str.strip, prompts)):
            raise UserError("There are no prompts.", "My own prompts", "Write one a line.")
        wanted = Wanted(prompts=prompts) if asked.get("own") else Wanted(_rows(asked.get("rows")))
        test = new_test(run, against, wanted)
        keep(run, test)
        return self._shown(run, test, next_question(test))

    def blind_question(self, asked: dict) -> View:
        """A question and how far its answers are; without `at` the next open one."""
        run, test = self._known(asked)
        at = _place(asked.get("at"), test)
        if at is None and test.is_over:
            return result_view(test, self.under_way.judging(test.id))
        if at is not None and asked.get("again"):
            self.under_way.answering(run, test).begin(at)
        return self._shown(run, test, next_question(test) if at is None else at)

    def blind_vote(self, asked: dict) -> View:
        """Keep a vote and show what comes next."""
        run, test = self._known(asked)
        at = _place(asked.get("at"), test)
        test = vote(run, test.id, -1 if at is None else at, str(asked.get("choice")))
        return self._shown(run, test, next_question(test, at or 0))

    def blind_skip(self, asked: dict) -> View:
        """Leave a question out and show the next one."""
        run, test = self._known(asked)
        at = _place(asked.get("at"), test)
        if at is None:
            raise UserError("There is no such question.", run.name(), "Reload the page.")
        test = leave_out(run, test.id, at, "left out by hand")
        return self._shown(run, test, next_question(test, at))

    def blind_take_back(self, asked: dict) -> View:
        """Take the last vote back and show its question again."""
        run, test = self._known(asked)
        test, at = take_back(run, test.id)
        return self._shown(run, test, next_question(test) if at is None else at)

    def blind_correct(self, asked: dict) -> View:
        """Keep a corrected answer as a row to train on; the votes stay as they are."""
        _, test = self._known(asked)
        kept = keep_corrected(self.studio.home, test, _place(asked.get("at"), test), asked)
        count = len(kept.corrections)
        some = "There is 1 correction" if count == 1 else f"There are {count:,} corrections"
        return {"said": f"Kept. {some} for this data; Chat offers to train on them."}

    def blind_result(self, asked: dict) -> View:
        """The result; `reveal` ends the votes for it."""
        run, test = self._known(asked)
        if not test.is_over and asked.get("reveal"):
            test = end(run, test.id)
        if not test.is_over:
            raise UserError("Votes are still open.", run.name(), "Finish the test, or end it.")
        return result_view(test, self.under_way.judging(test.id))

    def blind_go_on(self, asked: dict) -> View:
        """Take the votes up again."""
        run, test = self._known(asked)
        return {"test": go_on(run, test.id).id}

    def blind_csv(self, asked: dict) -> View:
        """The votes as CSV, after the end."""
        run, test = self._known(asked)
        if not test.is_over:
            raise UserError("Votes are still open.", run.name(), "Finish the test, or end it.")
        return {"name": f"{run.id}-{test.id}.csv", "text": votes_csv(test)}

    def blind_judge(self, asked: dict, request: gr.Request) -> View:
        """Say where the texts would go; with `sure` start the judge."""
        run, test = self._known(asked)
        judge = judge_named(asked, cast(HTTPConnection, request))
        pairs = open_pairs(run, test.id, judge)
        if asked.get("sure") and pairs:
            self.under_way.start_judge(run, test.id, judge)
        return {"where": where_texts_go(judge, pairs), "pairs": pairs}

    def blind_judges(self, asked: dict, request: gr.Request) -> View:
        """Whether any judge may be named here, or only some."""
        return {"any": is_personal(cast(HTTPConnection, request)), "listed": listed_judges()}

    def blind_judge_stop(self, asked: dict) -> View:
        """Stop the judge."""
        _, test = self._known(asked)
        self.under_way.stop_judge(test.id)
        return {"judging": self.under_way.judging(test.id)}

    def _shown(self, run: Run, test: BlindTest, at: int | None) -> View:
        """The question `at`, or the next one that is open; the result where none is."""
        while at is not None and not test.questions[at].is_open:
            at = next_question(test, at)
        if at is None:
            return result_view(test, self.under_way.judging(test.id))
        words, error = self.under_way.answering(run, test).look(at)
        known = for_people(error) if error else None
        return question_view(open_test(run, test.id), at, words, known)

    def _known(self, asked: dict) -> tuple[Run, BlindTest]:
        run = open_run(self.studio.home, str(asked.get("run")))
        return run, open_test(run, str(asked.get("test")))


def _place(at: object, test: BlindTest) -> int | None:
    """The index of a question, None for anything else."""
    return at if isinstance(at, int) and 0 <= at < len(test.questions) else None


def _rows(text: object) -> int:
    try:
        count = int(str(text))
    except ValueError:
        count = 0
    if count < 1:
        raise UserError("This is no number of rows.", "Held-out rows", "Enter 1 or more.")
    return count
