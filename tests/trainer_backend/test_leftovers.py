"""What was left behind a day ago is removed, whatever others do with it meanwhile."""

import os
from pathlib import Path

from trainer_backend.home import OLD_S, remove_old


def put(folder, name: str, age: float = 0.0):
    path = folder / name
    if name.endswith("/"):
        path.mkdir()
        (path / "inside").write_text("x")
    else:
        path.write_text("x")
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    return path


def test_only_what_is_old_and_of_the_names_goes(tmp_path):
    gone = [put(tmp_path, name, OLD_S + 60) for name in ("part-1", "part-2/", "zip-1")]
    kept = [put(tmp_path, "part-3", OLD_S - 60), put(tmp_path, "other", OLD_S + 60)]
    remove_old(tmp_path, "part-*", "zip-*")
    assert not any(path.exists() for path in gone) and all(path.exists() for path in kept)
    remove_old(tmp_path / "missing", "*")


def test_what_somebody_else_removes_meanwhile_is_no_error(tmp_path, monkeypatch):
    first, second = put(tmp_path, "part-1"), put(tmp_path, "part-2", OLD_S + 60)
    original = Path.stat

    def stat(path, **how):
        if path == first:
            raise FileNotFoundError(path)
        return original(path, **how)

    monkeypatch.setattr(Path, "stat", stat)
    remove_old(tmp_path, "part-*")
    monkeypatch.undo()
    assert first.exists() and not second.exists()
