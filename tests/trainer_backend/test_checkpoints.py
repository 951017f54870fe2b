"""Checkpoints count only when committed; damaged ones are set aside, never used."""

import pytest

from trainer_backend.checkpoints import commit, committed, newest_intact, rotate


def make(folder, step, eval_loss=None, done=True):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "adapter_model.safetensors").write_bytes(bytes([step % 256]) * 1000)
    (path / "trainer_state.json").write_text("{}")
    return commit(path, step, eval_loss) if done else path


def test_a_checkpoint_counts_once_committed(tmp_path):
    make(tmp_path, 10)
    make(tmp_path, 9)
    make(tmp_path, 20, done=False)
    assert [one.step for one in committed(tmp_path)] == [9, 10]


@pytest.mark.parametrize(
    "damage", ["truncated", "missing", "flipped", "no manifest", "empty manifest"]
)
def test_the_newest_intact_one_is_used_and_the_damaged_one_set_aside(tmp_path, damage):
    make(tmp_path, 5)
    bad = make(tmp_path, 10).path
    weights = bad / "adapter_model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "missing":
        (bad / "trainer_state.json").unlink()
    elif damage == "flipped":
        weights.write_bytes(b"\xff" + weights.read_bytes()[1:])
    elif damage == "no manifest":
        (bad / "MANIFEST.json").unlink()
    else:
        (bad / "MANIFEST.json").write_text("")
    found, set_aside = newest_intact(tmp_path)
    assert found.step == 5
    assert [one.name for one in set_aside] == ["checkpoint-10"] and set_aside[0].why
    assert any(path.name.startswith("damaged-checkpoint-10") for path in tmp_path.iterdir())


def test_without_any_good_one_there_is_nothing_to_resume(tmp_path):
    make(tmp_path, 3, done=False)
    found, set_aside = newest_intact(tmp_path)
    assert found is None and [one.name for one in set_aside] == ["checkpoint-3"]
    assert newest_intact(tmp_path) == (None, [])


def test_rotation_keeps_the_newest_and_the_best(tmp_path):
    for step, loss in ((1, 0.9), (2, 0.1), (3, 0.5), (4, 0.6), (5, 0.7), (6, None)):
        make(tmp_path, step, loss)
        rotate(tmp_path, keep=3)
    assert [one.step for one in committed(tmp_path)] == [2, 4, 5, 6]
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".trash")] == []


def test_rotation_leaves_uncommitted_folders_alone(tmp_path):
    unfinished = make(tmp_path, 9, done=False)
    for step in (1, 2, 3, 4):
        make(tmp_path, step)
    rotate(tmp_path, keep=3)
    assert unfinished.exists()
