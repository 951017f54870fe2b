"""A home, a dataset and tiny models for the tests of CUDA paths; all of them are marked gpu."""

from dataclasses import replace
from functools import wraps

import pytest
from run_files import ROWS

from trainer_backend.__main__ import main
from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.home import open_home
from trainer_backend.training.kernels import attention, varlen


@pytest.fixture
def home(tmp_path):
    return open_home(tmp_path / "home")


@pytest.fixture
def dataset(home):
    return create_from_rows(home, ROWS, name="numbers")


@pytest.fixture
def on_device(device):
    """The tensors of a batch (a dict) on the device under test; anything else as it is."""

    def move(batch: dict) -> dict:
        return {k: v.to(device) if hasattr(v, "to") else v for k, v in batch.items()}

    return move


@pytest.fixture
def call(home, capsys):
    """The command line in this process: call("chat", RUN) gives the exit code and the output."""

    def run(*arguments) -> tuple[int, str]:
        code = main([*map(str, arguments), "--home", str(home)])
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def varlen_calls(monkeypatch) -> list[int]:
    """Gets a 1 for each call of torch's variable-length kernel."""
    calls: list[int] = []
    inner, usual = varlen.TORCH.function, attention.kernel_for

    @wraps(inner)
    def counted(*given, **named):
        calls.append(1)
        return inner(*given, **named)

    kernel = replace(varlen.TORCH, function=counted)
    chosen = lambda *given: None if usual(*given) is None else kernel  # noqa: E731
    monkeypatch.setattr(attention, "kernel_for", chosen)
    return calls
