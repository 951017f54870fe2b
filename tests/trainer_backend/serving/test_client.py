"""The model process: asked over a connection; streams, stops, dies and comes back."""

import os
import signal
import time

import pytest
from fake_hub import SHA, FakeHub, for_processes, running
from run_files import set_state

from trainer_backend.errors import UserError
from trainer_backend.hardware import Hardware
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.serving.client import ModelProcess

MESSAGES = [{"role": "user", "content": "Say 3"}]


@pytest.fixture
def process(home):
    one = ModelProcess(home)
    yield one
    one.unload()


def last(stream) -> str:
    return list(stream)[-1]["text"]


def test_it_starts_when_asked_and_not_before(process):
    assert process.state() == {"loaded": None}
    assert process._process is None


def test_token_view_chat_stop_and_recovery(process, dataset, tiny_model_dir):
    model = str(tiny_model_dir)
    fields = Recipe(base_model=model, max_length=12).to_dict()
    view = process.token_view(dataset.id, 1, fields)
    assert view["num_tokens"] == len(view["tokens"]) and view["cut"] == view["num_tokens"] - 12
    assert "".join(token["text"] for token in view["tokens"]).startswith("<|im_start|>user\nSay 0")
    learned = "".join(token["text"] for token in view["tokens"] if token["learned"])
    assert learned == "0!<|im_end|>"

    stream = process.chat(model, MESSAGES, which="base", max_new_tokens=400)
    assert next(stream)["which"] == "base"
    began = time.monotonic()
    stream.close()
    again = last(process.chat(model, MESSAGES, which="base", max_new_tokens=2))
    assert isinstance(again, str) and time.monotonic() - began < 5
    assert process.state() == {"loaded": model}

    with pytest.raises(UserError) as caught:
        list(process.chat("run-000000000000", MESSAGES))
    assert "no such run" in caught.value.what

    process._process.kill()
    process._process.wait()
    assert last(process.chat(model, MESSAGES, which="base", max_new_tokens=2)) == again


def test_a_download_is_told_and_ends_with_its_request(
    process, dataset, tiny_model_dir, monkeypatch, tmp_path
):
    with running(FakeHub()) as hub:
        hub.files[SHA] = {path.name: path.read_bytes() for path in tiny_model_dir.iterdir()}
        hub.pace = (3_000, 0.1)
        for_processes(hub, monkeypatch, tmp_path)
        fields = Recipe(base_model="o/m").to_dict()
        steps = list(process.token_view_steps(dataset.id, 1, fields))
        told = [step["fetching"] for step in steps if "fetching" in step]
        assert told[0]["what"] == "Fetching the tokenizer of o/m" and steps[-1]["num_tokens"]
        assert any(" kB" in one["words"] for one in told)

        chat = process.chat_steps("o/m", MESSAGES, which="base", max_new_tokens=2)
        while not next(chat)["fetching"]["done"] > 30_000:
            pass
        chat.close()
        before, closed = -1, time.monotonic()
        while before != hub.fetched["model.safetensors"]:
            before = hub.fetched["model.safetensors"]
            time.sleep(0.5)
        assert time.monotonic() - closed < 4  # of which half a second is watching
        assert before < len(hub.files[SHA]["model.safetensors"])
        hub.pace = None
        assert last(process.chat("o/m", MESSAGES, which="base", max_new_tokens=2))
        assert hub.ranges[-1].startswith("bytes=")


def test_it_loads_ahead_unless_a_training_goes_on(process, run, tiny_model_dir):
    set_state(run, state="running")
    process.prepare(str(tiny_model_dir))
    assert process.state() == {"loaded": None}
    set_state(run, state="finished")
    process.prepare(str(tiny_model_dir))
    end = time.monotonic() + 60
    while process.state()["loaded"] is None and time.monotonic() < end:
        time.sleep(0.1)
    assert process.state() == {"loaded": str(tiny_model_dir)}


def test_it_leaves_the_gpu_to_a_training_and_says_so(process, tiny_model_dir, monkeypatch):
    gpu = Hardware("cuda", "Test GPU", 1, 8.0, 8.0, 4, True)
    stream = process.chat(str(tiny_model_dir), MESSAGES, which="base", max_new_tokens=400)
    next(stream)
    process.make_room()
    assert process.state()["loaded"], "on the CPU both have room"
    monkeypatch.setattr("trainer_backend.serving.client.hardware", lambda: gpu)
    process.make_room()
    assert process.state() == {"loaded": None}
    with pytest.raises(UserError, match="priority"):
        list(stream)


def test_a_row_that_does_not_train_says_why(process, dataset, tiny_model_dir):
    with pytest.raises(UserError) as caught:
        process.token_view(dataset.id, 999, Recipe(base_model=str(tiny_model_dir)).to_dict())
    assert "999" in caught.value.where


def test_asking_for_nonsense_is_answered_in_words(process, tiny_model_dir):
    with pytest.raises(UserError) as caught:
        list(process.chat(str(tiny_model_dir), [{"role": "user"}], which="base"))
    assert caught.value.fix


def test_a_process_that_dies_while_it_answers_is_told(process, tiny_model_dir):
    stream = process.chat(str(tiny_model_dir), MESSAGES, which="base", max_new_tokens=400)
    next(stream)
    os.kill(process._process.pid, signal.SIGKILL)
    with pytest.raises(UserError, match="stopped"):
        list(stream)


def test_it_evaluates_a_run_and_stops_when_nobody_listens(process, finished):
    parts = list(process.evaluate(finished.id, rows=2, metrics="exact_match"))
    told = [part["progress"] for part in parts if "progress" in part]
    found = parts[-1]["evaluation"]
    assert told and all(one["what"] for one in told)
    assert (found["run"], found["checkpoint"], len(found["examples"])) == (finished.id, 4, 2)
    assert set(found["metrics"]) == {"exact_match", "loss", "perplexity"}
    shown = process.evaluate(finished.id, checkpoint="all", rows=2)
    first = next(part for part in shown if "evaluation" in part)
    shown.close()
    assert first["evaluation"]["checkpoint"] == 2
    with pytest.raises(UserError, match="There is no checkpoint 3"):
        list(process.evaluate(finished.id, checkpoint=3))
    said = last(process.chat(finished.id, MESSAGES, which="tuned", max_new_tokens=2))
    assert isinstance(said, str), "the model is free for a chat again"
