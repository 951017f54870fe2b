"""The command blind: votes on unnamed answers in the terminal, or a judge that votes unattended.

Only choosing, reading keys and printing happens here.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from textwrap import indent

from trainer_backend.cli.runs import find_run
from trainer_backend.comparison.blind import (
    JUDGE,
    LEFT,
    RIGHT,
    TIE,
    Answering,
    BlindTest,
    Count,
    Question,
    Wanted,
    count,
    count_of_judge,
    keep,
    leave_out,
    names,
    new_test,
    next_question,
    open_test,
    result_dict,
    take_back,
    tests_of,
    verdict,
    vote,
)
from trainer_backend.comparison.blind.judging import judge_test, open_pairs
from trainer_backend.comparison.judge import Asking, Judge, new_judge, where_texts_go
from trainer_backend.errors import UserError
from trainer_backend.models.loaded.answer_parts import Answer
from trainer_backend.runs.run import Run
from trainer_backend.serving.client import ModelProcess

Say = Callable[[str], None]
KEYS = {"1": LEFT, "2": RIGHT, "0": TIE}
ASK = "1 or 2 for the better answer, 0 for a tie; u takes the last vote back, s skips, q ends: "
MOST_FAILURES = 3  # questions in a row that no model answers
MOST_SHOWN = 4_000  # characters of a text that are printed


def do_blind(home: Path, arguments: argparse.Namespace) -> int:
    """Go on with a blind test, or start one; a judge votes if one is named."""
    say: Say = partial(print, file=sys.stderr if arguments.json else sys.stdout, flush=True)
    judge = _judge(arguments)
    run = find_run(home, arguments.run)
    against = None if arguments.against == "base" else find_run(home, arguments.against)
    test = _test(run, against, arguments, judge)
    for note in test.notes:
        print(f"Note: {note}", file=sys.stderr)
    client = ModelProcess(home)
    answering = Answering(run, test.id, client)
    try:
        if judge:
            _judged(run, test, answering, judge)
        else:
            _vote_by_keys(run, test, answering, say)
    finally:
        answering.stop()
        client.unload()
    return _report(open_test(run, test.id), arguments.json)


def _judge(arguments: argparse.Namespace) -> Judge | None:
    if not arguments.judge:
        if arguments.judge_model or arguments.judge_key_env:
            raise UserError("No judge was given.", "--judge", "Name the address of its server.")
        return None
    return new_judge(arguments.judge, arguments.judge_model or "", arguments.judge_key_env)


def _test(
    run: Run, against: Run | None, arguments: argparse.Namespace, judge: Judge | None
) -> BlindTest:
    """The newest test of the same models and questions that is not over; else a new one."""
    rows, prompts = arguments.rows, _prompts(arguments.prompts)
    if rows is not None and rows < 1:
        raise UserError("There is nothing to ask.", "--rows", "Give a number above 0.")
    made = new_test(run, against, Wanted(rows or Wanted.rows, prompts))
    for one in [] if arguments.new else tests_of(run):
        same = _asks_alike(one, made, number=rows is not None, texts=bool(prompts))
        if same and (judge or not one.is_over):
            return one
    keep(run, made)
    return made


def _asks_alike(one: BlindTest, other: BlindTest, *, number: bool, texts: bool) -> bool:
    """Whether two tests are of the same models, and ask as many questions or the same texts."""

    def kind(test: BlindTest) -> list[object]:
        sides = [(side.run, side.which, side.checkpoint) for side in test.sides]
        said = [question.messages for question in test.questions] if texts else []
        return [sides, bool(test.dataset_id), len(test.questions) if number else 0, said]

    return kind(one) == kind(other)


def _prompts(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("This file cannot be read.", f"--prompts {path}", f"{error}") from error
    if not any(line.strip() for line in lines):
        raise UserError("The file is empty.", f"--prompts {path}", "Write one prompt a line.")
    return lines


def _vote_by_keys(run: Run, test: BlindTest, answering: Answering, say: Say) -> None:
    """Show one question after the other until all are voted on, or until the person ends it."""
    at = next_question(test)
    while at is not None:
        question = _answered(test, at, answering)
        if question.is_equal or question.left_out:
            if question.is_equal:
                say(f"Question {at + 1}: both answers are the same, so it is a tie.\n")
            test = open_test(run, test.id)
            at = next_question(test, at)
            continue
        say(_shown(test, at, question))
        key = _key(say)
        if key == "q":
            say(f"Go on with: python -m trainer_backend blind {run.id}")
            return
        test, at = _heard(run, test, at, key)


def _heard(run: Run, test: BlindTest, at: int, key: str) -> tuple[BlindTest, int | None]:
    """The test after a key, and the question that comes next."""
    if key == "u":
        test, back = take_back(run, test.id)
        return test, at if back is None else back
    if key == "s":
        test = leave_out(run, test.id, at, "skipped")
    else:
        test = vote(run, test.id, at, KEYS[key])
    return test, next_question(test, at)


def _answered(test: BlindTest, at: int, answering: Answering) -> Question:
    """The question with its answers; one that no model answers is left out, and said."""
    shown = ""
    try:
        for words in answering.wait_for(at):
            if words and words != shown and sys.stderr.isatty():
                print(f"\r{words:<70}", end="", file=sys.stderr, flush=True)
                shown = words
    except UserError as error:
        print(f"Question {at + 1} is left out: {error.what} {error.where}", file=sys.stderr)
        left = leave_out(answering.run, test.id, at, error.what)
        return left.questions[at]
    if shown:
        print(f"\r{'':<70}\r", end="", file=sys.stderr, flush=True)
    return open_test(answering.run, test.id).questions[at]


def _key(say: Say) -> str:
    """One of the keys; the end of the input ends the votes."""
    while True:
        try:
            print(ASK, end="", file=sys.stderr, flush=True)
            key = input().strip().lower()[:1]
        except EOFError:
            return "q"
        if key in (*KEYS, "u", "s", "q"):
            return key
        say("Press 1, 2, 0, u, s or q, then Enter.")


def _shown(test: BlindTest, at: int, question: Question) -> str:
    row = f" (row {question.row:,})" if question.row is not None else ""
    said = "\n".join(
        f"{one['role']}: {_cut(str(one.get('content') or ''))}" for one in question.messages
    )
    answers = (f"[{key}]\n{_answer(question.shown(KEYS[key]))}" for key in "12")
    return "\n\n".join([f"Question {at + 1} of {len(test.questions)}{row}", said, *answers, ""])


def _answer(answer: Answer) -> str:
    thought = f"(thought: {_cut(answer.reasoning)})\n" if answer.reasoning else ""
    cut = "\n(cut off at the limit)" if answer.cut else ""
    return indent(f"{thought}{_cut(answer.in_words()) or '(empty)'}{cut}", "    ")


def _cut(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]} … ({len(text):,} characters)"


def _judged(run: Run, test: BlindTest, answering: Answering, judge: Judge) -> None:
    """Answer every question, then let the judge vote; progress and problems go to stderr."""
    failures = 0
    for at in test.open_for(JUDGE):
        question = _answered(test, at, answering)
        failures = failures + 1 if question.left_out else 0
        if failures == MOST_FAILURES:
            raise UserError(
                "The models do not answer.", question.left_out, "Try again when this is mended."
            )
    pairs = open_pairs(run, test.id, judge)
    if pairs:
        print(where_texts_go(judge, pairs), file=sys.stderr)
    for done, _ in enumerate(judge_test(run, test.id, Asking(judge))):
        if sys.stderr.isatty():
            print(f"\rJudged {done} of {pairs}", end="", file=sys.stderr, flush=True)
    if pairs and sys.stderr.isatty():
        print(file=sys.stderr)


def _report(test: BlindTest, as_json: bool) -> int:
    """Print the result; exit code 1 when the judge could not be asked to the end."""
    judged = count_of_judge(test)
    if as_json:
        print(json.dumps(result_dict(test), ensure_ascii=False))
    else:
        called = names(test)
        voted = count(test)
        if voted.decided or voted.ties or not judged:
            print("\n".join(_lines("Your votes", voted, called)))
        if judged:
            print("\n".join(_lines(f"Judge {judged.model}", judged.count, called)))
            print(f"  {judged.flips} of {judged.asked} verdicts changed with the order of answers.")
            if judged.unusable:
                print(f"  {judged.unusable} answers of the judge were no verdict.")
            found = judged.agreement
            if found.share is not None:
                kappa = "not defined" if found.kappa is None else f"{found.kappa:.2f}"
                print(
                    f"  Agrees with you on {found.share:.0%} of {found.n}; Cohen's kappa {kappa}."
                )
    if judged and judged.problem:
        print(f"The judge ended early: {judged.problem}", file=sys.stderr)
        return 1
    return 0


def _lines(who: str, found: Count, called: dict[str, str]) -> list[str]:
    first, second = called.values()
    lines = [
        f"{who}: {first} {found.wins}, {second} {found.losses}, ties {found.ties}"
        + (f" ({found.same} with the same answers)" if found.same else "")
        + (f", open {found.open}" if found.open else "")
    ]
    if found.rate is not None and found.interval is not None:
        low, high = found.interval
        lines.append(
            f"  Win rate of {first} without ties: {found.rate:.0%}, "
            f"95 % interval {low:.0%} to {high:.0%}."
        )
    return [*lines, f"  {verdict(found, called)}"]
