"""The command line: what it prints, in which shape, and its exit codes. The model is a tiny one."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_files import set_state

from trainer_backend.__main__ import main
from trainer_backend.runs.create import list_runs

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "pairs.csv"
    rows = "".join(f"Say {n},{n}!\n" for n in range(40))
    path.write_text("prompt,response\n" + rows)
    return path


@pytest.fixture
def recipe_file(tmp_path, tiny_model_dir):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"base_model: {tiny_model_dir}\nmax_steps: 3\nper_device_train_batch_size: 4\n"
        "precision: fp32\nmax_length: 128\n"
    )
    return path


def test_check_reports_the_format_and_the_counts(call, data):
    code, out, _ = call("check", data, "--json")
    report = json.loads(out)
    assert code == 0 and report["rows"] == 40 and report["examples"] == 40
    assert report["format"] == "prompt_completion" and report["columns"] == ["prompt", "response"]
    assert isinstance(report["problems"], list)
    code, out, _ = call("check", data)
    assert code == 0 and "40 rows" in out


def test_check_counts_tokens_with_a_model(call, data, tiny_model_dir):
    code, out, _ = call("check", data, "--model", tiny_model_dir, "--json")
    tokens = json.loads(out)["tokens"]
    assert code == 0 and tokens["tokens"] > tokens["learned"] > 0
    assert tokens["cut"] == 0 and tokens["lost"] == 0
    code, out, _ = call("check", data, "--model", tiny_model_dir, "--max-length", 16, "--json")
    tokens = json.loads(out)["tokens"]
    assert (tokens["cut"], tokens["lost"], tokens["max_length"]) == (40, 40, 16)
    assert (
        "40 rows are cut" in call("check", data, "--model", tiny_model_dir, "--max-length", 16)[1]
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.csv", b""),
        ("header.csv", b"prompt,response\n"),
        ("latin.csv", "prompt,response\ncaf\xe9,x\n".encode("latin-1")),
        ("broken.json", b'[{"prompt": "a"},\n{"prompt": ]'),
        ("ragged.csv", b"prompt,response\na,b\nc,d,e\n"),
        ("wrong.txt.exe", b"MZ"),
        ("data.csv", b"\x80\x04\x95pickle."),
    ],
)
def test_files_that_cannot_be_used_are_refused_with_code_two(call, tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    code, out, err = call("check", path, "--json")
    error = json.loads(out)["error"]
    assert code == 2 and error["what"] and name in error["where"] and error["fix"]
    assert "Traceback" not in err and error["what"] in err


def test_a_file_whose_columns_are_unclear_is_reported_not_guessed(call, tmp_path):
    path = tmp_path / "unclear.csv"
    path.write_text("alpha,beta,gamma\n1,2,3\n4,5,6\n")
    code, out, _ = call("check", path, "--json")
    report = json.loads(out)
    assert code == 2 and report["examples"] == 0
    assert any(problem["severity"] == "error" for problem in report["problems"])


def test_training_prints_the_run_and_it_can_be_shown_and_listed(call, data, recipe_file):
    code, out, _ = call("train", recipe_file, "--data", data, "--set", "seed=7", "--name", "mine")
    lines = out.strip().splitlines()
    summary = json.loads(lines[-1])
    assert code == 0 and summary["state"] == "finished" and summary["name"] == "mine"
    assert lines[-2] == f"Run folder: {summary['dir']}"
    _, out, _ = call("show", summary["id"], "--json")
    shown = json.loads(out)
    assert shown == {**summary, "blind_tests": []} and {
        "id",
        "state",
        "step",
        "total_steps",
        "loss",
    } <= set(shown)
    _, out, _ = call("runs", "--json")
    assert [one["id"] for one in json.loads(out)] == [summary["id"]]
    assert "mine" in call("runs")[1] and "finished" in call("show", summary["dir"])[1]

    code, out, _ = call("chat", summary["id"], "--prompt", "Say 3", "--max-new-tokens", "4")
    assert code == 0 and out.endswith("\n")
    code, out, _ = call("chat", summary["dir"], "--prompt", "x", "--base", "--max-new-tokens", "2")
    assert code == 0
    out_folder = data.parent / "taken"
    code, out, _ = call("export", summary["id"], "--format", "adapter", "--out", out_folder)
    assert code == 0 and out.strip() == str(out_folder)
    assert (out_folder / "adapter_model.safetensors").exists()
    assert call("resume", summary["id"])[0] == 2
    assert call("stop", summary["id"])[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "no_such_preset"),
        ("train", "balanced"),
        ("train", "quick_try", "--set", "learning_rate=abc"),
        ("train", "quick_try", "--set", "learning_rate=1e9"),
        ("train", "quick_try", "--set", "learning_rat=1"),
        ("train", "quick_try", "--set", "nonsense"),
        ("train", "quick_try", "--data", "no-such-file.csv"),
        ("show", "run-000000000000"),
        ("chat", "run-000000000000", "--prompt", "x"),
        ("export", "../../etc", "--format", "adapter"),
        ("check", "no-such-file.csv"),
        ("check", "someone/some-dataset"),
    ],
)
def test_mistakes_are_told_with_code_two_and_leave_no_run(call, home, arguments):
    code, _, err = call(*arguments)
    assert code == 2 and "where:" in err and "fix:" in err and "Traceback" not in err
    assert list_runs(home) == []


def test_an_unknown_model_without_network_ends_with_code_two(call, home, data):
    code, out, err = call("train", "quick_try", "--data", data, "--set", "base_model=no/body")
    assert code == 2 and "Hub cannot be reached" in err
    assert json.loads(out.splitlines()[-1])["state"] == "failed"


@pytest.mark.parametrize("model", ["/etc", "not a model", "gguf", "bert"])
def test_train_and_check_refuse_a_wrong_model_in_the_same_words(call, home, data, tmp_path, model):
    if model in ("gguf", "bert"):
        folder = tmp_path / model
        folder.mkdir()
        files = {"gguf": "m.gguf", "bert": "config.json"}
        (folder / files[model]).write_text('{"model_type": "bert"}')
        model = folder
    told = [
        call("train", "quick_try", "--data", data, "--set", f"base_model={model}"),
        call("check", data, "--model", model),
    ]
    assert [code for code, *_ in told] == [2, 2] and list_runs(home) == []
    assert told[0][2] == told[1][2] and "Traceback" not in told[0][2]


def test_an_unreadable_home_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert main(["runs", "--home", str(tmp_path / "file")]) == 2
    assert "--home" in capsys.readouterr().err


def start(home, *arguments) -> subprocess.Popen:
    command = [sys.executable, "-m", "trainer_backend", *map(str, arguments), "--home", str(home)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def wait_for_step(home, step: int, seconds: float = 120.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for run in list_runs(home):
            if (run.state().get("step") or 0) >= step:
                return run
        time.sleep(0.05)
    raise AssertionError("the run did not get that far")


@pytest.mark.parametrize("way", ["stop command", "ctrl-c"])
def test_a_run_is_stopped_from_outside_and_resumed(call, home, data, recipe_file, way):
    process = start(home, "train", recipe_file, "--data", data, "--set", "max_steps=3000")
    run = wait_for_step(home, 1)
    if way == "ctrl-c":
        process.send_signal(signal.SIGINT)
    else:
        code, out, _ = call("stop", run.id, "--json")
        assert code == 0 and json.loads(out)["state"] == "paused"
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    summary = json.loads(out.splitlines()[-1])
    assert summary["state"] == "paused" and 0 < summary["step"] < 3000
    resumed = start(home, "resume", run.id)
    wait_for_step(home, summary["step"] + 1)
    call("stop", run.id)
    resumed.communicate(timeout=60)
    assert run.state()["attempt"] == 2 and run.state()["step"] > summary["step"]
    steps = [row["step"] for row in run.metrics() if row["type"] == "metrics"]
    assert steps == sorted(set(steps))


@pytest.fixture
def followed(monkeypatch):
    """The runs a command would train, without training them."""
    found = []
    monkeypatch.setattr("trainer_backend.cli.runs.follow", lambda run, _: found.append(run) or 0)
    return found


def test_a_new_run_begins_with_the_weights_of_another(call, finished, data, followed, recipe_file):
    code, *_ = call("train", "--from", finished.id, "--set", "learning_rate=1e-4", "--name", "on")
    new = followed[0]
    assert code == 0 and new.spec()["start"]["run"] == finished.id and new.name() == "on"
    assert new.settings() == {**finished.settings(), "learning_rate": 1e-4}
    assert new.spec()["dataset"] == finished.spec()["dataset"]
    assert call("train", "--from", finished.dir, "--data", data)[0] == 0
    assert followed[1].spec()["dataset"]["name"] == "pairs.csv"
    code, _, err = call("train", recipe_file, "--from", finished.id)
    assert code == 2 and "“LoRA rank” (lora_r) must be those of the weights" in err
    assert call("train")[0] == 2 and len(followed) == 2


def test_a_failed_run_is_started_anew_with_what_its_error_offers(call, run, followed):
    assert call("retry", run.id)[0] == 2  # nothing failed
    offer = {"retry": {"learning_rate": 1e-5}}
    set_state(run, state="failed", error={"what": "a", "where": "b", "fix": "c", "offer": offer})
    assert call("retry", run.id)[0] == 0 and call("retry", run.id, "--set", "seed=7")[0] == 0
    changes = [{"learning_rate": 1e-5}, {"seed": 7}]
    assert [new.settings() for new in followed] == [{**run.settings(), **one} for one in changes]
    assert all(new.id != run.id and new.state()["foreground"] for new in followed)
