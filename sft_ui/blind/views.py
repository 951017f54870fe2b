"""What the page is told of a blind test: the choices, a question, the result.

Of a question only “left” and “right” are told, never a name: what the browser does not have cannot
be read from it. Nothing is asked or written here.
"""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from sft_ui.data.dataset_files import image_address
from trainer_backend.comparison.blind import (
    FIRST,
    JUDGE,
    LEFT,
    PERSON,
    RIGHT,
    SECOND,
    TIE,
    BlindTest,
    Count,
    Question,
    count,
    count_of_judge,
    names,
    tests_of,
    verdict,
)
from trainer_backend.data.images import IMAGE_MARK
from trainer_backend.data.store import safe_cell
from trainer_backend.errors import UserError
from trainer_backend.evaluation.results import best_known
from trainer_backend.models.loaded.answer_parts import Answer, calls_of
from trainer_backend.runs import Run, list_runs

ROLES = {"user": "User", "assistant": "Assistant", "system": "System text", "tool": "Tool result"}
MOST_LISTED = 20  # earlier tests of a run
View = dict[str, Any]


def setup_view(run: Run) -> View:
    """What a new test of a run can be made of, and its earlier tests."""
    model = run.recipe().base_model.rstrip("/").rpartition("/")[2]
    others = [
        {"value": one.id, "words": f"{one.name()} ({one.id[-6:]})"}
        for one in list_runs(run.home)
        if one.id != run.id and one.result() is not None
    ]
    found = best_known(run)
    result = run.result()
    at_hand = found.examples if found and result and found.checkpoint == result.step else []
    return {
        "run": run.id,
        "name": run.name(),
        "ready": result is not None,
        "against": [{"value": "", "words": f"Its base model, {model}"}, *others],
        "held_out": _held_out(run),
        "at_hand": len(at_hand),
        "tests": [_listed(one) for one in tests_of(run)[:MOST_LISTED]],
    }


def _held_out(run: Run) -> int:
    """How many rows are held out; 0 if the data was deleted."""
    try:
        return len(run.split()[1])
    except UserError:
        return 0


def _listed(test: BlindTest) -> View:
    """An earlier test in a list: its kind, its questions, how far it is; no result."""
    other = test.side(SECOND)
    against = "base model" if other.which == "base" else other.name
    kind = f"held-out rows of {test.dataset}" if test.dataset else "own prompts"
    total = len(test.questions)
    state = "done" if test.is_over else f"{total - len(test.open_for(PERSON))} of {total}"
    return {
        "id": test.id,
        "words": f"Against {against} · {total:,} {kind}",
        "state": state,
        "over": test.is_over,
        "created_at": test.created_at,
    }


def question_view(test: BlindTest, at: int, words: str, error: UserError | None) -> View:
    """A question, once both models have answered it; before, how far that is."""
    question = test.questions[at]
    *before, last = [_message(one) for one in question.messages]
    left_out = sum(bool(one.left_out) for one in test.questions)
    total, still_open = len(test.questions), len(test.open_for(PERSON))
    view = {
        "view": "question",
        "test": test.id,
        "at": at,
        "total": total,
        "done": total - still_open,
        "same": sum(one.is_equal for one in test.questions),
        "left_out": left_out,
        "voted": len(test.votes_by(PERSON)),
        "notes": test.notes,
        "row": question.row,
        "before": before,
        "asked": last,
        "images": [image_address(test.dataset_id, name) for name in question.images],
        "expected": question.expected,
        "tools": bool(question.tools),
        "ready": question.is_answered,
        "words": words,
        "error": error.to_dict() if error else None,
    }
    if question.is_answered:
        view |= {place: _answer(question.shown(place)) for place in (LEFT, RIGHT)}
    return view


def _message(message: dict[str, Any]) -> View:
    content = message.get("content")
    text = content if isinstance(content, str) else ""
    said = Answer(text.replace(IMAGE_MARK, "").strip(), calls=calls_of(message)).in_words()
    return {"role": ROLES.get(str(message["role"]), str(message["role"])), "text": said}


def _answer(answer: Answer) -> View:
    return {
        "text": answer.in_words(),
        "content": answer.content,
        "calls": json.dumps(answer.calls, ensure_ascii=False, indent=2) if answer.calls else "",
        "reasoning": answer.reasoning,
        "cut": answer.cut,
    }


def result_view(test: BlindTest, judging: View | None) -> View:
    """The result with names, and every question with its votes."""
    called = names(test)
    judged = count_of_judge(test)
    return {
        "view": "result",
        "test": test.id,
        "names": called,
        "you": _counted(count(test), called),
        "open": len(test.open_for(PERSON)),
        "left_out": sum(bool(one.left_out) for one in test.questions),
        "answered": sum(one.is_answered for one in test.questions),
        "total": len(test.questions),
        "of_rows": bool(test.dataset_id),
        "notes": test.notes,
        "judge": None
        if judged is None
        else {
            **_counted(judged.count, called),
            "model": judged.model,
            "host": judged.host,
            "asked": judged.asked,
            "flips": judged.flips,
            "unusable": judged.unusable,
            "problem": judged.problem,
            "agreement": judged.agreement.__dict__,
        },
        "judging": judging,
        "rows": [_row(test, at, one, called) for at, one in enumerate(test.questions)],
    }


def _counted(found: Count, called: dict[str, str]) -> View:
    return {
        "wins": found.wins,
        "losses": found.losses,
        "ties": found.ties,
        "same": found.same,
        "rate": found.rate,
        "interval": found.interval,
        "enough": found.enough,
        "sentence": verdict(found, called),
    }


def _row(test: BlindTest, at: int, question: Question, called: dict[str, str]) -> View:
    judged = test.votes_by(JUDGE).get(at)
    answers = {side: _answer(one) for side, one in question.answers.items()}
    return {
        "at": at,
        "row": question.row,
        "prompt": _message(question.messages[-1])["text"],
        "answers": answers,
        "vote": vote_words(test, at, PERSON, called),
        "judge": vote_words(test, at, JUDGE, called),
        "flipped": bool(judged and judged.flipped),
    }


def vote_words(test: BlindTest, at: int, by: str, called: dict[str, str]) -> str:
    """What a voter preferred, by its name: “tie”, “same answers”, “left out”, or "" without."""
    question = test.questions[at]
    if question.left_out:
        return "left out"
    if question.is_equal:
        return "same answers"
    given = test.votes_by(by).get(at)
    if given is None:
        return ""
    won = question.winner(given.choice)
    return TIE if won == TIE else called[won]


def votes_csv(test: BlindTest) -> str:
    """Every question with both answers, the votes and the order shown, as CSV."""
    called = names(test)
    out = io.StringIO()
    writer = csv.writer(out)
    answers: Sequence[str] = [called[FIRST], called[SECOND]]
    head = ["question", "row", "prompt", *answers, "your vote", "judge", "judge flipped", "left"]
    writer.writerow([safe_cell(one) for one in head])
    for at, question in enumerate(test.questions):
        row = _row(test, at, question, called)
        texts = [row["answers"].get(side, {}).get("text", "") for side in (FIRST, SECOND)]
        cells = [row["prompt"], *texts, row["vote"], row["judge"]]
        shown = called[question.side_of(LEFT)]
        writer.writerow(
            [at + 1, question.row or "", *map(safe_cell, cells), row["flipped"], safe_cell(shown)]
        )
    return out.getvalue()
