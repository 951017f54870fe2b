"""Processes: how one ended, what a system lacks, its own group."""

import platform
import signal
import subprocess
import sys

import pytest

from trainer_backend.processes import (
    child_environment,
    end_group,
    end_signal,
    identity,
    is_same_process,
    known_limits,
    on_stop_signal,
    start_in_own_group,
)

TREE = "import subprocess, sys; subprocess.Popen(['sleep', '60']); print(1, flush=True); input()"


@pytest.mark.parametrize(
    ("code", "name"),
    [(-9, "SIGKILL"), (137, "SIGKILL"), (139, "SIGSEGV"), (0, None), (1, None), (None, None)],
)
def test_the_signal_in_an_exit_code_has_a_name(code, name):
    assert end_signal(code) == name


def test_linux_lacks_nothing(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert known_limits() == []


def test_the_limit_of_compiled_products_is_set_for_children_unless_the_user_did(monkeypatch):
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    assert child_environment()[name] == "64"
    monkeypatch.setenv(name, "512")
    assert child_environment()[name] == "512"


def test_a_group_ends_with_its_children():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with start_in_own_group([sys.executable, "-c", TREE], **pipes) as process:
        assert process.stdout.readline()
        assert is_same_process(identity(process.pid))
        assert end_group(process.pid)
        assert process.stdout.read() == b""  # the child held the pipe open
    assert process.returncode == -signal.SIGKILL


def test_a_stop_signal_is_handled_and_the_old_handler_comes_back():
    before, received = signal.getsignal(signal.SIGTERM), []
    restore = on_stop_signal(lambda: received.append(True), ctrl_c=False)
    signal.raise_signal(signal.SIGTERM)
    restore()
    assert received == [True] and signal.getsignal(signal.SIGTERM) == before
