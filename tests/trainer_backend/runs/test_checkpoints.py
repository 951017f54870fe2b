"""Checkpoints count only when committed; damaged ones are set aside, never used."""

import pytest

from trainer_backend.runs.checkpoints import commit, committed, damage, newest_intact, rotate


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
    "how",
    ["truncated", "missing", "flipped", "no manifest", "empty manifest", "renamed", "not ours"],
)
def test_the_newest_intact_one_is_used_and_the_damaged_one_set_aside(tmp_path, how):
    make(tmp_path, 5)
    bad = make(tmp_path, 10).path
    weights = bad / "adapter_model.safetensors"
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif how == "missing":
        (bad / "trainer_state.json").unlink()
    elif how == "flipped":
        weights.write_bytes(b"\xff" + weights.read_bytes()[1:])
    elif how == "no manifest":
        (bad / "MANIFEST.json").unlink()
    elif how == "renamed":
        bad.rename(bad.with_name("checkpoint-11"))
    elif how == "not ours":
        commit(bad, 10, run="run-of-another-folder")
    else:
        (bad / "MANIFEST.json").write_text("")
    found, set_aside = newest_intact(tmp_path)
    assert found.step == 5
    name = "checkpoint-11" if how == "renamed" else "checkpoint-10"
    assert [one.name for one in set_aside] == [name] and set_aside[0].why
    assert any(path.name.startswith(f"damaged-{name}") for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "run", "counts"),
    [
        ("checkpoint-10", "run-1", True),
        ("checkpoint-10", None, True),
        ("checkpoint-10", "run-2", False),
        ("checkpoint-12", "run-1", False),
    ],
)
def test_neither_a_name_nor_a_place_makes_a_checkpoint_count(tmp_path, name, run, counts):
    folder = tmp_path / "run-1" / "checkpoints"
    commit(make(folder, 10, done=False), 10, run=run)
    (folder / "checkpoint-10").rename(folder / name)
    assert len(committed(folder)) == counts
    assert (damage(folder / name) is None) == counts


def test_a_folder_without_a_step_in_its_name_is_the_last_to_be_tried(tmp_path):
    make(tmp_path, 3)
    (tmp_path / "checkpoint-best").mkdir()
    found, set_aside = newest_intact(tmp_path)
    assert found.step == 3 and set_aside == []


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_never_the_best(tmp_path, loss):
    for step, eval_loss in ((1, loss), (2, 0.5), (3, None), (4, 0.7)):
        make(tmp_path, step, eval_loss)
    assert [one.eval_loss for one in committed(tmp_path)] == [None, 0.5, None, 0.7]
    rotate(tmp_path, keep=1)
    assert [one.step for one in committed(tmp_path)] == [2, 4]


@pytest.mark.parametrize("changed", ["cut", "gone", "other bytes"])
def test_damage_names_the_file(tmp_path, changed):
    path = make(tmp_path, 10).path
    weights = path / "adapter_model.safetensors"
    if changed == "cut":
        weights.write_bytes(b"12345")
    elif changed == "gone":
        weights.unlink()
    else:
        weights.write_bytes(bytes(1000))
    why = {
        "cut": "adapter_model.safetensors has 5 bytes instead of 1000",
        "gone": "adapter_model.safetensors is missing",
        "other bytes": "the content of adapter_model.safetensors has changed",
    }
    assert damage(path) == why[changed]


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
