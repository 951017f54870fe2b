"""Many prompts at once: the answers of one at a time, in order, stopped within a part."""

import pytest

from trainer_backend.models.loaded.asking import AskedWith
from trainer_backend.models.loaded.generate import Sampling
from trainer_backend.runs.target import find_target
from trainer_backend.serving.process.chat import ChatModel
from trainer_backend.serving.process.many import answer_some

ASKED = [[{"role": "user", "content": f"Say {n}{' please' * n}"}] for n in range(5)]
LONG = [{"role": "user", "content": "again and again " * 400}]


@pytest.fixture
def model(home, finished):
    return ChatModel(home, find_target(home, finished.id))


@pytest.mark.parametrize("which", ["tuned", "base"])
def test_they_are_the_answers_of_one_at_a_time(model, which):
    sampling = Sampling(max_new_tokens=6)
    asked = [*ASKED[:2], LONG, *ASKED[2:]]
    found = list(answer_some(model, asked, which, sampling, AskedWith(), lambda: None))
    assert "too long" in found.pop(2)["error"]
    alone = [list(model.stream(one, which, sampling))[-1] for one in ASKED]
    assert [one["text"] for one in found] == [one.in_words() for one in alone]
    assert [(one["cut"], one["tokens"]) for one in found] == [(a.cut, a.tokens) for a in alone]
    assert all(0 < one.tokens <= 6 and one.seconds >= 0 for one in alone)


def test_sampled_answers_come_one_by_one_and_a_stop_ends_them(model):
    class Stop(Exception):
        pass

    sampling = Sampling(temperature=1.0, max_new_tokens=4, seed=3)
    (found,) = answer_some(model, ASKED[:1], "tuned", sampling, AskedWith(), lambda: None)
    assert found["text"] == list(model.stream(ASKED[0], "tuned", sampling))[-1].in_words()

    def tick():
        raise Stop

    for one in (sampling, Sampling(max_new_tokens=4)):
        with pytest.raises(Stop):
            list(answer_some(model, ASKED, "tuned", one, AskedWith(), tick))


def test_a_file_is_answered_on_the_command_line(call, finished, tmp_path):
    prompts, out = tmp_path / "p.txt", tmp_path / "a.jsonl"
    prompts.write_text("Say 3\nSay 4\n")
    given = ("chat", finished.id, "--max-new-tokens", "3", "--prompts", prompts)
    code, said, err = call(*given, "--out", out)
    assert code == 0 and said.strip() == str(out) and "2 of 2 answered" in err
    assert [line.split('"prompt": "')[1][:5] for line in out.read_text().splitlines()] == [
        "Say 3", "Say 4",
    ]  # fmt: skip
    assert call(*given)[0] == 2 and call(*given, "--out", tmp_path / "a.txt")[0] == 2
