"""Starting the app: what is printed before the page opens."""

import platform

import pytest

from sft_ui import main as entry
from trainer_backend.processes import known_limits


@pytest.mark.parametrize("system", ["Windows", "Darwin"])
def test_what_another_system_lacks_is_printed_at_start(system, monkeypatch, capsys):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(entry, "serve", lambda arguments: None)
    assert entry.main([]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f"Note: {limit}" for limit in known_limits()]
    assert all(limit.endswith(".") for limit in known_limits())
    assert any("memory limit" in limit for limit in known_limits())
