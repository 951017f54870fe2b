"""A judge on a stub server: clear, biased to a place, talkative, slow, broken, absent."""

import threading
import time
from contextlib import ExitStack

import pytest
from judge_stub import serving

from trainer_backend.comparison.blind.blind_test import JUDGE
from trainer_backend.comparison.blind.judging import judge_test, open_pairs, pair_of
from trainer_backend.comparison.blind.keeping import open_test
from trainer_backend.comparison.blind.result import count_of_judge, result_dict
from trainer_backend.comparison.blind.voting import vote
from trainer_backend.comparison.judge import (
    Asking,
    Judge,
    Pair,
    Stopped,
    Verdict,
    chat_address,
    new_judge,
    read_verdict,
    where_texts_go,
)
from trainer_backend.errors import UserError

KEY = "a-key-that-nobody-may-see-1234"
PAIR = Pair("User: Which?", "good answer", "bad answer")


@pytest.fixture
def serve(monkeypatch):
    """Start a stub: serve(say)."""
    monkeypatch.setenv("STUB_KEY", KEY)
    with ExitStack() as stack:
        yield lambda say: stack.enter_context(serving(say))


def judge_of(stub) -> Judge:
    return Judge(stub.url, "stub", "STUB_KEY")


def asking_of(stub, **more) -> Asking:
    return Asking(judge_of(stub), **{"wait_s": (0.01, 0.01), "request_s": 5.0, **more})


def better(prompt: str) -> str:
    """Prefers the answer with “good”, wherever it stands."""
    return "[[A]]" if prompt.index("good answer") < prompt.index("bad answer") else "[[B]]"


def test_a_clear_judge_is_asked_in_both_orders(serve):
    stub = serve(better)
    assert asking_of(stub).compare(PAIR) == Verdict("one")
    assert asking_of(stub).compare(PAIR.swapped()) == Verdict("other")
    first, second = stub.bodies[:2]
    assert first["path"] == "/v1/chat/completions" and first["model"] == "stub"
    assert first["messages"][1]["content"] != second["messages"][1]["content"]
    assert set(stub.keys) == {f"Bearer {KEY}"}


@pytest.mark.parametrize("always", ["[[A]]", "[[B]]"])
def test_a_preference_for_a_place_is_a_tie(serve, always):
    assert asking_of(serve(lambda prompt: always)).compare(PAIR) == Verdict("tie", flipped=True)


def test_a_tie_in_both_orders_is_no_flip(serve):
    assert asking_of(serve(lambda prompt: "[[C]]")).compare(PAIR) == Verdict("tie")


def test_nonsense_is_no_verdict(serve):
    for said in ("I like turtles.", "", b"<html>", b'{"choices": []}', b"[1]"):
        assert asking_of(serve(lambda prompt, said=said: said)).compare(PAIR) == Verdict(None)


@pytest.mark.parametrize(
    "text, verdict",
    [
        ("[[A]]", "A"),
        ("A is nice, but my verdict: [[b]].", "B"),
        ("First [[A]], no: [[B]]", "B"),
        ("[[tie]]", "C"),
        ("B", "B"),
        ("**A**.", "A"),
        ("Answer: B", "B"),
        ('{"verdict": "A"}', "A"),
        ("Answer A is better, it is shorter.", "A"),
        ("It is a tie.", "C"),
        ("<think>[[A]] looks good</think>\n[[B]]", "B"),
        ("<think>[[A]] and then the tokens ran out", None),
        ("Answer A has this, answer B has that.", None),
        ("A good question.", None),
        ("", None),
    ],
)
def test_verdicts_are_read_leniently(text, verdict):
    assert read_verdict(text) == verdict


@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_server_is_asked_again(serve, code):
    replies = [code, code]
    stub = serve(lambda prompt: replies.pop() if replies else better(prompt))
    assert asking_of(stub).compare(PAIR) == Verdict("one")
    assert len(stub.bodies) == 4


@pytest.mark.parametrize("code", [401, 404, 429, 302])
def test_a_refusal_is_said_without_the_key(serve, code):
    with pytest.raises(UserError) as caught:
        asking_of(serve(lambda prompt: code)).compare(PAIR)
    assert str(code) in caught.value.what and "refused" in caught.value.where
    assert KEY not in str(caught.value.to_dict())


def test_a_server_that_knows_fewer_settings_is_asked_without_them(serve):
    stub = serve(better)
    stub.say = lambda prompt: 400 if "temperature" in stub.bodies[-1] else better(prompt)
    assert asking_of(stub).compare(PAIR) == Verdict("one")
    assert ["temperature" in body for body in stub.bodies] == [True, False, False]


def test_a_slow_judge_is_given_up_and_a_stop_is_heard_at_once(serve):
    release = threading.Event()
    stub = serve(lambda prompt: release.wait(20) and "[[A]]")
    with pytest.raises(UserError, match="too slow"):
        asking_of(stub, request_s=0.3).compare(PAIR)
    asking = asking_of(stub, request_s=20)
    threading.Timer(0.2, asking.stop.set).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        asking.compare(PAIR)
    assert time.monotonic() - began < 5
    release.set()


def test_an_absent_judge_is_said():
    judge = Judge("http://127.0.0.1:9/v1", "none")
    with pytest.raises(UserError, match="cannot be reached"):
        Asking(judge, wait_s=(0.01,), request_s=5).compare(PAIR)


@pytest.mark.parametrize(
    "url, address",
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1/chat/completions"),
        ("http://[::1]:8000/v1/", "http://[::1]:8000/v1/chat/completions"),
        ("https://x.test/a/chat/completions?v=1", "https://x.test/a/chat/completions?v=1"),
    ],
)
def test_the_address_is_completed(url, address):
    assert chat_address(url) == address


@pytest.mark.parametrize(
    "url, model, key_env",
    [
        ("file:///etc/passwd", "m", ""),
        ("ftp://host", "m", ""),
        ("localhost:8000", "m", ""),
        ("https://user:word@host", "m", ""),
        ("http://host:99999", "m", ""),
        ("", "m", ""),
        ("https://host", " ", ""),
        ("https://host", "m", "sk-abc.def"),
        ("https://host", "m", "NOT_SET_ANYWHERE"),
    ],
)
def test_what_is_no_judge_is_refused(url, model, key_env):
    with pytest.raises(UserError):
        new_judge(url, model, key_env)


def test_where_the_texts_go_is_said():
    judge = Judge("http://192.168.0.4:8000/v1", "m")
    said = (
        "20 questions with both answers leave this machine and go to 192.168.0.4:8000, each twice."
    )
    assert where_texts_go(judge, 20) == said


def prefers_tuned(prompt: str) -> str:
    one, other = (prompt.split(f"[Answer {letter}]\n")[1] for letter in "AB")
    return "[[A]]" if one.startswith("tuned") else "[[B]]"


def test_a_judge_votes_on_the_whole_test_once(serve, trained, kept):
    stub = serve(prefers_tuned)
    for at, question in enumerate(kept.questions[:4]):
        vote(trained, kept.id, at, "right" if question.swapped else "left")
    assert open_pairs(trained, kept.id, judge_of(stub)) == 10
    *_, test = judge_test(trained, kept.id, asking_of(stub))
    judged = count_of_judge(test)
    assert (judged.count.wins, judged.count.losses, judged.flips) == (10, 0, 0)
    assert judged.agreement.n == 4 and judged.agreement.share == 1
    assert len(stub.bodies) == 20 and len(list(judge_test(trained, kept.id, asking_of(stub)))) == 1
    assert len(stub.bodies) == 20 and open_pairs(trained, kept.id, judge_of(stub)) == 0
    assert KEY not in (trained.dir / "votes" / f"{kept.id}.json").read_text()


def test_flips_are_counted_as_ties(serve, trained, kept):
    *_, test = judge_test(trained, kept.id, asking_of(serve(lambda prompt: "[[A]]")))
    found = result_dict(test)["judge"]
    assert (found["ties"], found["flips"], found["asked"], found["win_rate"]) == (10, 10, 10, None)


def test_another_judge_starts_anew(serve, trained, kept):
    list(judge_test(trained, kept.id, asking_of(serve(prefers_tuned))))
    other = serve(lambda prompt: "[[C]]")
    assert open_pairs(trained, kept.id, judge_of(other)) == 10
    *_, test = judge_test(trained, kept.id, asking_of(other))
    assert count_of_judge(test).count.ties == 10 and len(test.votes) == 10


def test_a_broken_judge_ends_in_words_and_goes_on_later(serve, trained, kept):
    stub = serve(prefers_tuned)
    stub.say = lambda prompt: 500 if len(stub.bodies) > 6 else prefers_tuned(prompt)
    *_, test = judge_test(trained, kept.id, asking_of(stub))
    assert "error 500" in test.judge.problem and len(test.votes_by(JUDGE)) == 3
    vote(trained, kept.id, 0, "tie")  # the person goes on without it
    stub.say = prefers_tuned
    *_, test = judge_test(trained, kept.id, asking_of(stub))
    assert test.judge.problem == "" and len(test.votes_by(JUDGE)) == 10


def test_a_judge_that_only_talks_nonsense_is_given_up(serve, trained, kept):
    stub = serve(lambda prompt: "Lovely answers!")
    *_, test = judge_test(trained, kept.id, asking_of(stub))
    assert "no verdict that can be read" in test.judge.problem
    assert len(test.judge.unusable) == 5 and len(stub.bodies) == 10


def test_stopping_keeps_what_is_there(serve, trained, kept):
    stub = serve(prefers_tuned)
    asking = asking_of(stub)
    for test in judge_test(trained, kept.id, asking):
        if len(test.votes_by(JUDGE)) == 2:
            asking.stop.set()
    assert len(open_test(trained, kept.id).votes_by(JUDGE)) == 2


def test_the_judge_sees_what_is_shown(kept):
    question = kept.questions[0]
    pair = pair_of(question)
    assert pair.conversation == f"User: {question.messages[0]['content']}"
    assert pair.one == question.shown("left").content and pair.reference == question.expected
