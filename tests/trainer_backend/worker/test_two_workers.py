"""Runs of two processes on the app's own path, and on two machines as `launch` prints them."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from run_files import ROWS
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.home import open_home
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import create_run
from trainer_backend.scheduling.launch import Fleet, machine_commands
from trainer_backend.scheduling.scheduler import Scheduler
from trainer_backend.worker.main import run_worker

pytestmark = pytest.mark.slow
STEPS = 12


def make_run(home, dataset, model, processes: int, **more):
    settings = {
        "base_model": str(model),
        "max_steps": STEPS,
        "per_device_train_batch_size": 4 // processes,
        "num_processes": processes,
        "save_steps": 2,
        "eval_steps": 4,
        "eval_fraction": 0.08,  # 3 rows: an odd number
        "learning_rate": 1e-2,
        "lora_r": 4,
        "max_length": 64,
        "precision": "fp32",
    }
    recipe = Recipe.from_dict({**settings, **more})
    return create_run(home, recipe, dataset, foreground=processes == 1)


def wait_for(run, *states: str, seconds: float = 90.0) -> dict:
    end = time.monotonic() + seconds
    while (state := run.state())["state"] not in states:
        assert time.monotonic() < end, (state, run.log_tail())
        time.sleep(0.02)
    return state


def curve(run) -> dict:
    """Losses by step and kind."""
    rows = run.metrics()
    assert len(rows) == STEPS + 3  # none twice, none missing
    return {(row["type"], row["step"]): row.get("loss", row.get("eval_loss")) for row in rows}


@pytest.fixture
def app(home, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # on the CPU, also beside one GPU
    one = Scheduler(home)
    one.start()
    yield one
    one.close()
    for process in one._workers.values():
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny_model_dir):
    """The run as one process trains it."""
    home = open_home(tmp_path_factory.mktemp("alone"))
    run = make_run(home, create_from_rows(home, ROWS, name="numbers"), tiny_model_dir, 1)
    assert run_worker(run.dir) == 0
    return run


@pytest.mark.parametrize("distributed", ["ddp", "fsdp"])
def test_two_processes_lose_one_and_end_as_one_process_would(
    home, dataset, tiny_model_dir, app, alone, distributed
):
    two = make_run(home, dataset, tiny_model_dir, 2, distributed=distributed)
    while wait_for(two, "queued", "preparing", "running", "saving").get("step", 0) < 3:
        time.sleep(0.01)
    second = json.loads((two.dir / "ranks" / "rank-1.json").read_text())
    os.kill(second["pid"], signal.SIGKILL)
    error = wait_for(two, "failed", "finished")["error"]
    assert "process 2 of 2" in error["what"] and error["code"] == "rank_failed" and error["fix"]
    while two.is_alive():
        time.sleep(0.02)
    assert two.checkpoints()
    app.resume(two.id)
    wait_for(two, "finished")
    assert curve(two) == pytest.approx(curve(alone), abs=1e-4)
    assert [c.step for c in two.checkpoints()] == [c.step for c in alone.checkpoints()]
    for mine, other in zip(two.checkpoints(), alone.checkpoints(), strict=True):
        same_adapter(mine.path, other.path, tiny_model_dir)


def same_adapter(path, other, model_dir):
    """Saved under peft's names, taken up whole by peft, and nothing of the base beside it."""
    mine, theirs = (load_file(folder / "adapter_model.safetensors") for folder in (path, other))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-4, rtol=0)
    assert sum(file.stat().st_size for file in path.iterdir()) < 200_000
    base = AutoModelForCausalLM.from_pretrained(model_dir)
    loaded = get_peft_model_state_dict(PeftModel.from_pretrained(base, path))
    assert all(torch.equal(loaded[name], tensor) for name, tensor in mine.items())


def namespaces() -> list[str] | None:
    """Two network namespaces joined by a cable, or None where they cannot be made."""
    names = [f"sft-{os.getpid()}-{n}" for n in (1, 2)]
    cables = [f"sft{os.getpid()}{n}"[-14:] for n in "ab"]
    commands = [["netns", "add", name] for name in names]
    commands.append(["link", "add", cables[0], "type", "veth", "peer", "name", cables[1]])
    for number, (name, cable) in enumerate(zip(names, cables, strict=True), start=1):
        commands += [
            ["link", "set", cable, "netns", name],
            ["-n", name, "addr", "add", f"10.91.0.{number}/24", "dev", cable],
            ["-n", name, "link", "set", cable, "up"],
            ["-n", name, "link", "set", "lo", "up"],
        ]
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return None
    for command in commands:
        if subprocess.run(["ip", *command], capture_output=True).returncode:
            remove(names)
            return None
    return names


def remove(names: list[str]) -> None:
    for name in names:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.fixture
def machines():
    """(address of the first, how to run a shell line on each): two hosts, or else twice this."""
    names = namespaces()
    if names is None:
        yield "127.0.0.1", [["bash", "-c"]] * 2
        return
    script = 'hostname "machine-$0"; exec bash -c "$1"'
    yield (
        "10.91.0.1",
        [
            ["ip", "netns", "exec", name, "unshare", "-u", "bash", "-c", script, name]
            for name in names
        ],
    )
    remove(names)


def test_two_machines_train_one_run_in_a_shared_folder(home, dataset, tiny_model_dir, machines):
    address, shells = machines
    run = make_run(home, dataset, tiny_model_dir, 1)
    lines = machine_commands(run, Fleet(2, 1, address, 29713))
    started = [
        subprocess.Popen([*shell, line], stderr=subprocess.PIPE, text=True)
        for shell, line in zip(shells, lines, strict=True)
    ]
    errors = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], errors
    state = run.state()
    assert state["state"] == "finished" and state["step"] == STEPS
    ranks = [json.loads(path.read_text()) for path in sorted((run.dir / "ranks").iterdir())]
    assert [one["state"] for one in ranks] == ["done", "done"]
    assert len({one["host"] for one in ranks}) == len({tuple(shell) for shell in shells})
