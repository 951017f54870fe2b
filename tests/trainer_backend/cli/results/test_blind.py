"""The command blind: votes by keys, goes on later, a judge that votes unattended."""

import io
import json
from functools import partial

import pytest
from blind_tests import Answers, add_evaluation, give_checkpoint
from judge_stub import serving

from trainer_backend.comparison.blind import tests_of as kept_tests
from trainer_backend.comparison.judge import Asking
from trainer_backend.errors import UserError
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import create_run


class Client(Answers):
    """The model process of the command: none is started."""

    ended = 0

    def unload(self):
        self.ended += 1


@pytest.fixture
def client(monkeypatch):
    made = Client()
    monkeypatch.setattr("trainer_backend.cli.results.blind.ModelProcess", lambda home: made)
    return made


@pytest.fixture
def trained(home, dataset):
    recipe = Recipe(max_steps=4, eval_fraction=0.3)
    return give_checkpoint(create_run(home, recipe, dataset, name="Mine"))


@pytest.fixture
def keys(monkeypatch):
    """Type lines: keys("1", "2")."""
    return lambda *typed: monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(typed)))


def test_votes_by_keys_are_kept_and_gone_on_with(call, trained, client, keys):
    keys("1", "2", "x", "0", "u", "0")
    code, out, _ = call("blind", trained.id, "--rows", 4)
    assert code == 0 and client.ended == 1
    assert "Question 1 of 4 (row" in out and "Question 4 of 4" in out and "Press 1, 2, 0" in out
    [test] = kept_tests(trained)
    assert [one.choice for one in test.votes] == ["left", "right", "tie"]
    keys("1")
    code, out, _ = call("blind", trained.id, "--rows", 4, "--json")
    found = json.loads(out)
    assert found["open"] == 0 and found["ties"] == 1 and found["wins"] + found["losses"] == 3
    assert found["id"] == test.id and len(kept_tests(trained)) == 1
    shown = json.loads(call("show", trained.id, "--json")[1])
    assert shown["blind_tests"] == [found]
    assert "Say" not in json.dumps(shown["blind_tests"])


def test_no_name_is_told_before_the_end(call, trained, client, keys):
    keys()
    client.same = False
    add_evaluation(trained, 3)
    _, out, _ = call("blind", trained.id, "--rows", 3)
    asked = out.split("Go on with")[0]
    assert "base model" not in asked and "Mine" not in asked and client.asked == []


def test_same_answers_need_no_vote(call, trained, client, keys):
    client.same = True
    keys()
    code, out, _ = call("blind", trained.id, "--rows", 3)
    assert code == 0 and "both answers are the same" in out
    assert "ties 3 (3 with the same answers)" in out
    assert "Both models gave the same answers" in out


def test_a_judge_votes_unattended(call, trained, client, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret-of-the-judge")
    with serving(lambda prompt: "[[A]]") as stub:
        judge = ("--judge", stub.url, "--judge-model", "stub", "--judge-key-env", "SOME_KEY")
        code, out, err = call("blind", trained.id, "--rows", 3, *judge, "--json")
    found = json.loads(out)["judge"]
    assert code == 0 and (found["asked"], found["flips"], found["ties"]) == (3, 3, 3)
    assert "3 questions with both answers leave this machine and go to 127.0.0.1" in err
    assert "secret-of-the-judge" not in out + err
    assert stub.keys == ["Bearer secret-of-the-judge"] * 6


def test_a_judge_that_is_not_there_ends_with_1_and_words(call, trained, client, monkeypatch):
    judge = ("--judge", "http://127.0.0.1:9/v1", "--judge-model", "none")
    monkeypatch.setattr("trainer_backend.cli.results.blind.Asking", partial(Asking, wait_s=(0.0,)))
    code, out, err = call("blind", trained.id, "--rows", 2, *judge)
    assert code == 1 and "cannot be reached" in err and "No votes yet" in out


def test_questions_that_no_model_answers_are_left_out_and_said(call, trained, client, keys):
    client.error = UserError("The conversation is too long.", "Chat", "Shorten it.")
    keys()
    code, out, err = call("blind", trained.id, "--rows", 2)
    assert code == 0 and err.count("is left out: The conversation is too long.") == 2
    assert json.loads(call("show", trained.id, "--json")[1])["blind_tests"][0]["left_out"] == 2


@pytest.mark.parametrize(
    "options, said",
    [
        (("--judge-model", "m"), "No judge was given"),
        (("--judge", "ftp://x", "--judge-model", "m"), "not the address of a judge"),
        (("--judge", "http://x"), "needs the name of a model"),
        (("--rows", "0"), "nothing to ask"),
        (("--prompts", "/nowhere.txt"), "cannot be read"),
        (("--against", "run-000000000000"), "no such run"),
    ],
)
def test_what_is_wrong_is_said(call, trained, client, options, said):
    code, _, err = call("blind", trained.id, *options)
    assert code == 2 and said in err


def test_own_prompts_come_from_a_file(call, trained, client, keys, tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("One?\n\nTwo?\n")
    keys("1")
    code, out, _ = call("blind", trained.id, "--prompts", path)
    assert code == 0 and "Question 1 of 2\n" in out and "user: Two?" in out
    assert [len(one.questions) for one in kept_tests(trained)] == [2]
