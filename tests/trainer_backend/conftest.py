"""Small homes, datasets and runs for the tests of run folders. Only `finished` needs torch."""

import os
import shutil
import signal
import sys
from pathlib import Path

import fake_worker
import pytest
from played_runs import MANNERS
from run_files import ROWS

from trainer_backend.__main__ import main
from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.home import open_home, read_json
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import create_run, list_runs


@pytest.fixture
def home(tmp_path):
    return open_home(tmp_path / "home")


@pytest.fixture
def dataset(home):
    return create_from_rows(home, ROWS, name="numbers")


@pytest.fixture
def run(home, dataset):
    return create_run(home, Recipe(max_steps=4), dataset)


@pytest.fixture
def workers(monkeypatch):
    """Let runs be played by fake_worker.py, in the manner of MANNERS; none is left behind."""
    started = []

    def command(run, devices=None) -> list[str]:
        started.append(run)
        script = str(Path(fake_worker.__file__))
        return [sys.executable, script, str(run.dir), MANNERS.get(run.id, "steady")]

    monkeypatch.setattr("trainer_backend.scheduling.worker_process.worker_command", command)
    monkeypatch.setattr("trainer_backend.scheduling.scheduler.TICK_S", 0.05)
    yield started
    for run in started:
        facts = read_json(run.dir / "worker.json", {})
        if facts.get("pid"):
            try:
                os.killpg(facts["pid"], signal.SIGKILL)
            except ProcessLookupError:
                continue


@pytest.fixture(scope="session")
def finished_template(tmp_path_factory, tiny_model_dir):
    """A home with one finished run: checkpoints of steps 2 and 4. Tests get copies of it."""
    from small_runs import train_small

    home = open_home(tmp_path_factory.mktemp("finished"))
    train_small(home, create_from_rows(home, ROWS, name="numbers"), tiny_model_dir)
    return home


@pytest.fixture
def finished(finished_template, home):
    """A finished run in the home of the test, on the `dataset` of the test."""
    shutil.copytree(finished_template, home, dirs_exist_ok=True)
    return list_runs(home)[-1]


@pytest.fixture
def call(home, capsys):
    """The command line in this process: call("show", RUN) gives exit code, output, errors."""

    def run(*arguments) -> tuple[int, str, str]:
        code = main([*map(str, arguments), "--home", str(home)])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run
