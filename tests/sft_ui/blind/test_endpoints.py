"""The blind test of the page: what the browser is told, and what it may do."""

from types import SimpleNamespace

import pytest
from blind_tests import Answers, add_evaluation, give_checkpoint
from judge_stub import serving
from played_runs import wait_until

from sft_ui.blind.endpoints import Endpoints
from sft_ui.blind.judge_form import VARIABLE
from sft_ui.blind.under_way import UnderWay
from sft_ui.context import Studio
from trainer_backend.corrections import kept_for
from trainer_backend.errors import UserError


@pytest.fixture
def client():
    return Answers()


@pytest.fixture
def page(studio, client):
    """The endpoints by name: page("blind_vote", at=0, …) for the run and test at hand."""
    there = Studio(studio.home, studio.scheduler, client)
    known = {one.__name__: one for one in Endpoints(there, UnderWay(client)).all()}
    now = {}

    def call(name, *more, **given):
        answer = known[name]({**now, **given}, *more)
        now.update({key: answer[key] for key in ("run", "test") if key in answer})
        return answer

    call.now = now
    return call


@pytest.fixture
def trained(run):
    return give_checkpoint(run)


@pytest.fixture
def begun(page, trained):
    """A test of four rows whose answers are kept; its first question."""
    add_evaluation(trained, 8)
    page.now["run"] = trained.id
    return page("blind_start", rows="4")


def visitor(host="127.0.0.1", auth=None, **headers):
    app = SimpleNamespace(auth=auth)
    return SimpleNamespace(
        scope={"app": app}, client=SimpleNamespace(host=host), headers={"host": "x", **headers}
    )


def test_what_a_test_can_be_made_of(page, trained, home):
    add_evaluation(trained, 8)
    page.now["run"] = trained.id
    choices = page("blind_choices")
    assert choices["held_out"] == 12 and choices["at_hand"] == 8 and choices["tests"] == []
    assert [one["value"] for one in choices["against"]] == [""]


def test_kept_answers_are_there_at_once_and_nothing_is_asked(begun, client):
    assert begun["ready"] and begun["at"] == 0 and client.asked == []
    assert {begun["left"]["text"].split()[0], begun["right"]["text"].split()[0]} == {
        "base",
        "tuned",
    }


def test_no_name_and_no_side_is_told_before_the_end(page, begun):
    told = {key: value for key, value in begun.items() if key not in ("left", "right")}
    for word in ("first", "second", "swapped", "sides", "A run", "checkpoint"):
        assert word not in str(told)
    assert "error" in page("blind_result") and "error" in page("blind_csv")


def test_votes_lead_to_the_result_with_names(page, begun):
    view = begun
    for _ in range(4):
        place = "left" if view["left"]["text"].startswith("tuned") else "right"
        view = page("blind_vote", at=view["at"], choice=place)
    assert view["view"] == "result" and view["you"]["wins"] == 4 and view["open"] == 0
    assert {row["vote"] for row in view["rows"]} == {"Tuned model"}
    text = page("blind_csv")["text"].splitlines()
    assert text[0].startswith("question,row,prompt,Tuned model,Base model,your vote")
    assert len(text) == 5 and text[1].count("Tuned model") >= 1


def test_a_reload_goes_on_and_a_vote_can_be_taken_back(page, begun):
    page("blind_vote", at=0, choice="tie")
    again = page("blind_question")
    assert (again["at"], again["done"], again["voted"]) == (1, 1, 1)
    assert page("blind_take_back")["at"] == 0
    assert page("blind_skip", at=0)["at"] == 1
    shown = page("blind_result", reveal=True)
    assert shown["left_out"] == 1 and shown["open"] == 3
    assert shown["rows"][0]["vote"] == "left out"
    page("blind_go_on")
    assert page("blind_question")["at"] == 1


@pytest.mark.parametrize("at", [-1, 4, None, "0", True])
def test_a_vote_on_nothing_is_refused(page, begun, at):
    answer = page("blind_vote", at=at, choice="left")
    assert at is True or answer["error"]["what"] == "This vote cannot be counted."


def test_own_prompts_are_answered_while_one_waits(page, trained, client):
    page.now["run"] = trained.id
    assert page("blind_start", own=True, prompts=" \n ")["error"]["what"] == "There are no prompts."
    view = page("blind_start", own=True, prompts="One?\nTwo?")
    wait_until(lambda: page("blind_question", at=0)["ready"], 10)
    view = page("blind_question", at=0)
    assert view["total"] == 2 and view["row"] is None and view["asked"]["text"] == "One?"
    assert client.asked[0][2]["which"] == "both"


def test_an_answer_that_fails_can_be_tried_again(page, trained, client):
    client.error = UserError("It ended.", "Model", "Try again.")
    page.now["run"] = trained.id
    page("blind_start", rows="1")
    wait_until(lambda: page("blind_question", at=0)["error"], 10)
    client.error = None
    assert page("blind_question", at=0)["error"]["what"] == "It ended."  # not by itself
    page("blind_question", at=0, again=True)
    wait_until(lambda: page("blind_question", at=0)["ready"], 10)


@pytest.mark.parametrize("given", [{"rows": "0"}, {"rows": "many"}, {"against": "run-1"}])
def test_what_cannot_be_tested_is_said(page, trained, given):
    page.now["run"] = trained.id
    assert page("blind_start", **{"rows": "4", **given})["error"]["fix"]


def test_a_corrected_answer_is_kept_to_train_on(page, begun, trained):
    said = page("blind_correct", at=0, place="left", answer="Right.", calls="", reasoning="")
    assert said["said"].startswith("Kept. There is 1 correction for this data")
    [kept] = kept_for(trained).corrections
    assert kept.answer.content == "Right." and kept.said == begun["left"]["text"]
    assert (kept.row, kept.place, kept.checkpoint) == (begun["row"], "blind test", 4)
    assert page("blind_question")["voted"] == 0


@pytest.mark.parametrize(
    "given",
    [
        {"place": "middle", "answer": "x"},
        {"place": "left", "answer": " "},
        {"place": "left", "answer": "x", "calls": "no JSON"},
        {"place": "left", "answer": "x", "at": 99},
    ],
)
def test_what_is_no_correction_is_refused(page, begun, trained, given):
    assert page("blind_correct", **{"at": 0, **given})["error"]["fix"]
    assert kept_for(trained).corrections == []


def test_a_judge_is_asked_only_after_it_was_said_where_texts_go(page, begun):
    page("blind_result", reveal=True)
    with serving(lambda prompt: "[[A]]") as stub:
        named = {"url": stub.url, "model": "stub", "key_env": ""}
        said = page("blind_judge", visitor(), **named)
        assert "4 questions with both answers leave this machine" in said["where"]
        assert stub.bodies == []
        page("blind_judge", visitor(), **named, sure=True)
        wait_until(lambda: page("blind_result")["judging"]["over"], 20)
    view = page("blind_result")
    assert view["judge"]["flips"] == 4 and view["judging"]["error"] is None
    assert len(stub.bodies) == 8 and {row["judge"] for row in view["rows"]} == {"tie"}


@pytest.mark.parametrize(
    "who",
    [
        visitor("10.0.0.7"),
        visitor(auth=object()),
        visitor(**{"X-Forwarded-For": "10.0.0.7"}),
        SimpleNamespace(scope={}, client=None, headers={}),
    ],
)
def test_on_a_shared_page_only_listed_judges_are_asked(page, begun, who, monkeypatch):
    named = {"url": "http://10.0.0.1/v1", "model": "m", "key_env": ""}
    assert not page("blind_judges", who)["any"]
    assert "shared page" in page("blind_judge", who, **named)["error"]["what"]
    monkeypatch.setenv(VARIABLE, "nonsense, http://10.0.0.1/v1/")
    assert "where" in page("blind_judge", who, **named)
    assert "error" in page("blind_judge", who, **{**named, "url": "http://10.0.0.2/v1"})
