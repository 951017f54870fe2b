"""A whole run with a tiny model: the worker's path, stop, resume, answers, chat, export."""

import json
import math
import shutil

import pytest
from run_files import set_state
from small_runs import small_run, train_small, weights_of

from trainer_backend.errors import UserError
from trainer_backend.estimation.device import machine_key
from trainer_backend.estimation.timing import PHASES, read_timing
from trainer_backend.export.exporter import export_run
from trainer_backend.export.files import zip_folder
from trainer_backend.hardware import hardware
from trainer_backend.models.loaded.generate import Sampling
from trainer_backend.models.source import ModelSource
from trainer_backend.runs.target import find_target
from trainer_backend.serving.process.chat import ChatModel
from trainer_backend.tokens.encode import encode
from trainer_backend.worker.main import run_worker

QUESTION = [{"role": "user", "content": "Say 3"}]


def test_a_run_trains_to_its_end_and_keeps_its_curves(finished):
    state = finished.state()
    assert state["state"] == "finished" and state["step"] == state["total_steps"] == 4
    rows = finished.metrics()
    train = [row for row in rows if row["type"] == "metrics"]
    held_out = [row for row in rows if row["type"] == "eval"]
    assert [row["step"] for row in train] == [1, 2, 3, 4]
    assert [row["step"] for row in held_out] == [2, 4]
    for key in ("loss", "learning_rate", "grad_norm", "num_tokens", "memory_gb"):
        assert all(math.isfinite(row[key]) for row in train), key
    assert train[-1]["loss"] < train[0]["loss"]
    assert [one.step for one in finished.checkpoints()] == [2, 4]
    assert finished.checkpoints()[-1].eval_loss == pytest.approx(held_out[-1]["eval_loss"])
    assert not finished.is_alive()


def test_a_run_records_the_seconds_of_its_phases_and_its_work(finished):
    timing = read_timing(finished.dir)
    assert timing is not None
    assert {*PHASES} <= timing.seconds.keys()
    assert all(seconds >= 0 for seconds in timing.seconds.values())
    plan, tokens = timing.plan, finished.state()["num_tokens"]
    assert (plan.steps, plan.saves, plan.eval_runs) == (4, 2, 2)
    assert plan.step_tokens * plan.steps == pytest.approx(tokens)
    assert 0 < plan.step_trained < plan.step_tokens and plan.longest_row <= plan.longest_batch
    assert plan.rows == 32 and plan.eval_tokens > plan.eval_trained > 0
    assert timing.shape.layers == 2 and timing.recipe["precision"] == "fp32"
    assert timing.machine == machine_key(hardware())


def test_a_stopped_and_resumed_run_ends_with_the_same_weights(
    home, dataset, tiny_model_dir, finished, monkeypatch
):
    run = small_run(home, dataset, tiny_model_dir)
    from trainer_backend.worker import recorder

    original = recorder.RecordRun.on_step_end

    def stop_at_two(self, args, state, control, **kwargs):
        if state.global_step == 2 and run.state()["attempt"] == 1:
            run.request_stop()
        return original(self, args, state, control, **kwargs)

    monkeypatch.setattr(recorder.RecordRun, "on_step_end", stop_at_two)
    assert run_worker(run.dir) == 0
    assert run.state()["state"] == "paused" and run.state()["step"] == 2
    timing = read_timing(run.dir)
    assert timing is not None and timing.plan.steps == 2
    assert [one.step for one in run.checkpoints()] == [2]
    (run.dir / "stop").unlink()
    assert run_worker(run.dir) == 0
    assert run.state()["state"] == "finished" and run.state()["attempt"] == 2
    one, two = (weights_of(r.checkpoints()[-1]) for r in (finished, run))
    assert one.keys() == two.keys()
    assert all(one[name].equal(two[name]) for name in one)
    ours, theirs = ([row["loss"] for row in r.metrics() if "loss" in row] for r in (run, finished))
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_a_stop_before_the_first_step_keeps_nothing_and_says_stopped(home, dataset, tiny_model_dir):
    run = small_run(home, dataset, tiny_model_dir)
    run.request_stop()
    assert run_worker(run.dir) == 0
    assert run.state()["state"] == "stopped" and run.checkpoints() == []


def test_what_the_user_must_fix_is_told_with_exit_code_two(home, dataset, tiny_model_dir, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_dir, folder)
    run = small_run(home, dataset, folder)
    (folder / "model.safetensors").unlink()  # somebody moved the weights after Start
    assert run_worker(run.dir) == 2
    error = run.state()["error"]
    assert run.state()["state"] == "failed" and str(folder) in error["where"] and error["fix"]
    assert [event["type"] for event in run.events()[0]][-2:] == ["error", "state"]


def test_rows_cut_to_nothing_are_refused_before_training(home, dataset, tiny_model_dir):
    run = small_run(home, dataset, tiny_model_dir, max_length=8)
    assert run_worker(run.dir) == 2
    assert "a token to train on" in run.state()["error"]["what"] and run.state()["error"]["fix"]


def test_a_second_worker_leaves_the_run_alone(finished):
    with finished.lock():
        assert run_worker(finished.dir) == 1
    assert finished.state()["state"] == "finished"


def test_full_training_and_packing_work_too(home, dataset, tiny_model_dir):
    run = train_small(home, dataset, tiny_model_dir, adapter="full", packing=True, max_steps=2)
    folder = run.checkpoints()[-1].path
    assert (folder / "model.safetensors").exists() and not (folder / "adapter_config.json").exists()
    model = ChatModel(home, find_target(home, run.id))
    assert list(model.stream(QUESTION, "base", Sampling(max_new_tokens=3)))


def test_the_base_side_of_a_chat_is_the_base_model(home, finished, tiny_model_dir):
    sampling = Sampling(max_new_tokens=8)
    tuned = ChatModel(home, find_target(home, finished.id))
    plain = ChatModel(home, find_target(home, str(tiny_model_dir)))
    base_text = list(tuned.stream(QUESTION, "base", sampling))[-1]
    assert base_text == list(plain.stream(QUESTION, "base", sampling))[-1]
    both = {}
    for which, answer in tuned.stream_both({"base": QUESTION, "tuned": QUESTION}, sampling):
        both[which] = answer
    assert both["base"] == base_text
    assert both["tuned"] == list(tuned.stream(QUESTION, "tuned", sampling))[-1]


def test_answers_equal_those_of_generate(home, finished):
    from trainer_backend.models.loaded.generate import answer_batch

    model = ChatModel(home, find_target(home, finished.id))
    prompt = model.prompt(QUESTION)
    streamed = list(model.stream(QUESTION, "tuned", Sampling(max_new_tokens=6)))[-1]
    (text,) = answer_batch(model.model, model.tokenizer, [prompt.ids], 6)
    assert prompt.read(text) == streamed and streamed.content


def test_the_chat_prompt_is_the_training_prompt_byte_for_byte(home, finished):
    model = ChatModel(home, find_target(home, finished.id))
    messages = [*QUESTION, {"role": "assistant", "content": "3!"}]
    encoded = encode({"messages": messages}, model.tokenizer, assistant_only_loss=True)
    context = encoded.labels.index(next(label for label in encoded.labels if label != -100))
    assert model.prompt(QUESTION).ids == encoded.input_ids[:context]


def test_exports_load_with_plain_libraries_and_say_the_same(home, finished):
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    adapter, merged = (export_run(finished, format) for format in ("adapter", "merged"))
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    ids = torch.tensor([tokenizer("Say 3", add_special_tokens=False).input_ids])
    one = AutoPeftModelForCausalLM.from_pretrained(adapter)(input_ids=ids).logits
    two = AutoModelForCausalLM.from_pretrained(merged)(input_ids=ids).logits
    assert torch.allclose(one, two, atol=1e-4)
    assert not list(adapter.glob("optimizer*")) and (adapter / "README.md").exists()
    assert zip_folder(adapter).stat().st_size > 0


def test_the_snippet_of_an_export_runs_as_written(home, finished, capsys, monkeypatch):
    folder = export_run(finished, "merged")
    monkeypatch.chdir(folder.parent)
    assert str(home) not in (folder / "README.md").read_text()
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    exec(compile(code, "snippet", "exec"), {})
    assert capsys.readouterr().out


def test_an_adapter_of_a_hub_model_names_its_hub_id(home, finished, monkeypatch):
    monkeypatch.setattr(
        "trainer_backend.export.exporter.locate_model",
        lambda *_: ModelSource("hub", "own/er", None),
    )
    folder = export_run(finished, "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == finished.recipe().base_model


@pytest.mark.parametrize("format", ["exe", "../x", ""])
def test_unknown_export_formats_are_refused(finished, format):
    with pytest.raises(UserError):
        export_run(finished, format)


def test_a_failed_export_leaves_the_earlier_one(home, finished, monkeypatch):
    folder = export_run(finished, "adapter")
    before = sorted(path.name for path in folder.iterdir())

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trainer_backend.export.exporter.shutil.copy2", fail)
    with pytest.raises(OSError):
        export_run(finished, "adapter")
    assert sorted(path.name for path in folder.iterdir()) == before
    assert [path for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_damaged_checkpoints_are_set_aside_and_said(home, dataset, tiny_model_dir, finished):
    newest = finished.checkpoints()[-1].path
    (newest / "optimizer.pt").write_bytes(b"torn")
    set_state(finished, state="failed")
    assert run_worker(finished.dir) == 0
    assert finished.state()["state"] == "finished"
    assert any("checkpoint-4" in warning for warning in finished.state()["warnings"])
