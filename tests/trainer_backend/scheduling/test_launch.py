"""How a run's processes are started: commands, environment, Slurm script."""

import shlex
import subprocess
import sys
from dataclasses import replace

import pytest

from trainer_backend.errors import UserError
from trainer_backend.hardware import Hardware
from trainer_backend.processes import PACKAGE_PARENT
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import create_run
from trainer_backend.scheduling import launch
from trainer_backend.scheduling.launch import (
    Fleet,
    check_fleet,
    leave_to_others,
    machine_commands,
    slurm_script,
    worker_command,
    worker_environment,
)

CPU = Hardware("cpu", "CPU", 1, 8, 8, 2, False)
FOUR = Hardware("cuda", "X", 4, 80, 80, 64, True)


@pytest.fixture
def machine(monkeypatch):
    def use(one):
        monkeypatch.setattr(launch, "hardware", lambda: one)

    use(CPU)
    return use


@pytest.fixture
def pair(home, dataset):
    return create_run(home, Recipe(max_steps=4, num_processes=2), dataset)


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_one_process_is_started_directly(run, machine):
    assert worker_command(run) == [sys.executable, "-m", "trainer_backend", "worker", str(run.dir)]
    machine(replace(FOUR, num_devices=1))
    assert "accelerate.commands.launch" not in worker_command(run)


def test_all_visible_gpus_are_used_or_those_the_run_was_given(run, machine):
    machine(FOUR)
    command = worker_command(run)
    assert option(command, "--num_processes") == "4" and "--multi_gpu" in command
    assert command[-3:] == ["trainer_backend", "worker", str(run.dir)]
    assert option(worker_command(run, [1, 3]), "--num_processes") == "2"
    assert "accelerate.commands.launch" not in worker_command(run, [2])
    assert worker_environment(run, ["1", "3"]) == {"CUDA_VISIBLE_DEVICES": "1,3"}
    assert worker_environment(run) == {}


def test_a_cpu_takes_the_number_of_the_recipe(pair, machine):
    command = worker_command(pair)
    assert option(command, "--num_processes") == "2" and "--multi_gpu" in command
    assert "--cpu" not in command, "accelerate would start one process only"
    assert option(command, "--main_process_port") == "0"


def test_the_options_are_those_accelerate_knows(pair, machine):
    from accelerate.commands.launch import launch_command_parser

    command = worker_command(pair)
    parsed = launch_command_parser().parse_args(command[3:])
    assert (parsed.num_processes, parsed.num_machines, parsed.module) == (2, 1, True)
    assert parsed.training_script_args == ["worker", str(pair.dir)]


def test_each_machine_gets_its_line(run, machine):
    lines = machine_commands(run, Fleet(2, 3, "node a", 29500))
    for rank, line in enumerate(lines):
        words = shlex.split(line)
        assert f"PYTHONPATH={PACKAGE_PARENT}" in words
        assert option(words, "--machine_rank") == str(rank)
        assert option(words, "--num_processes") == "6"
        assert option(words, "--main_process_ip") == "node a"
        assert "'node a, port 29500, for 10 minutes'" in line


@pytest.mark.parametrize("there", [True, False])
def test_a_machine_that_does_not_see_the_folder_says_so(run, machine, there):
    (line,) = machine_commands(run, Fleet(1, 1))
    if not there:
        (run.dir / "spec.json").rename(run.dir / "elsewhere.json")
    done = subprocess.run(
        ["bash", "-c", line.replace(sys.executable, "echo")], capture_output=True, text=True
    )
    assert (done.returncode, str(run.dir) in done.stderr) == ((0, False) if there else (2, True))
    assert ("worker" in done.stdout) == there


def asked_slurm(monkeypatch, tmp_path, answer: str) -> None:
    (tmp_path / "sinfo").write_text(f"#!/bin/sh\n{answer}\n")
    (tmp_path / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("answer", "gpus"), [("echo '(null)'", 0), ("echo gpu:a100:4", 1), ("exit 1", 1)]
)
def test_gpus_are_asked_for_where_slurm_has_some(run, monkeypatch, tmp_path, answer, gpus):
    asked_slurm(monkeypatch, tmp_path, answer)
    script = slurm_script(run, Fleet(2, 4, port=29500))
    assert script.count("#SBATCH --gpus-per-node=4\n") == gpus
    assert "#SBATCH --nodes=2\n" in script and f'"{run.dir}/worker.log"' in script


@pytest.mark.parametrize("fleet", [Fleet(0, 1), Fleet(1, 0), Fleet(5000, 1)])
def test_numbers_that_cannot_be_meant_are_refused(run, fleet):
    with pytest.raises(UserError):
        check_fleet(run, fleet)


def test_a_run_at_work_or_in_the_queue_is_not_started_again(run):
    with pytest.raises(UserError):
        check_fleet(run, Fleet(2, 1))
    leave_to_others(run)
    check_fleet(run, Fleet(2, 1))
    with run.lock(), pytest.raises(UserError):
        check_fleet(run, Fleet(2, 1))


def test_launch_makes_a_run_that_no_app_starts_or_takes_one_that_is_there(home, machine, capsys):
    from trainer_backend.__main__ import main
    from trainer_backend.runs.create import list_runs

    options = ["--nodes", "2", "--processes-per-node", "1", "--host", "a", "--home", str(home)]
    assert main(["launch", "quick_try", "--set", "max_steps=3", *options]) == 0
    (run,) = list_runs(home)
    assert run.recipe().max_steps == 3 and run.state()["state"] == "stopped"
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(str(run.dir) in line for line in lines)
    assert main(["launch", run.id, "--slurm", *options]) == 0
    assert capsys.readouterr().out.startswith("#!/bin/bash")
    assert len(list_runs(home)) == 1
    assert main(["launch", run.id, "--nodes", "0", "--home", str(home)]) == 2
