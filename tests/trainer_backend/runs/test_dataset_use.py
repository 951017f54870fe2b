"""Deleting data: refused while a run needs it, atomic, and finished later if it was cut off."""

import os

import pytest

from trainer_backend.data.store.dataset import list_datasets, open_dataset
from trainer_backend.data.store.downloads import download_dataset
from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.data.store.versions import edit_rows
from trainer_backend.errors import UserError
from trainer_backend.home import write_json
from trainer_backend.runs import dataset_use
from trainer_backend.runs.dataset_use import delete_dataset


def stored(home, name: str):
    rows = [{"prompt": f"{name} {at}", "response": f"answer {at}"} for at in range(3)]
    return create_from_rows(home, rows, name=name)


def run_with(home, dataset_id: str, number: int = 1):
    folder = home / "runs" / f"run-{number:012}"
    folder.mkdir()
    write_json(folder / "spec.json", {"dataset": {"id": dataset_id}})
    (folder / "name.txt").write_text(f"Run {number}", encoding="utf-8")
    return folder


def folders(home) -> list[str]:
    return sorted(os.listdir(home / "datasets"))


def test_it_is_gone_and_others_stay(home):
    first, second = stored(home, "a"), stored(home, "b")
    child = edit_rows(home, first.id, drops=[1])
    taken = download_dataset(home, first.id)
    delete_dataset(home, first.id)
    assert folders(home) == sorted([second.id, child.id]) and not taken.parent.exists()
    assert open_dataset(home, child.id).page(0)[1] == 2
    with pytest.raises(UserError):
        delete_dataset(home, first.id)


def test_case_39_data_that_a_run_needs_is_kept_and_the_run_is_named(home):
    dataset, other = stored(home, "a"), stored(home, "b")
    folder = run_with(home, dataset.id)
    with pytest.raises(UserError, match="A run needs this dataset: “Run 1”") as caught:
        delete_dataset(home, dataset.id)
    assert caught.value.code == "dataset_in_use" and open_dataset(home, dataset.id) == dataset
    for number in range(2, 6):
        run_with(home, dataset.id, number)
    with pytest.raises(UserError, match="5 runs need this dataset: .* and 2 more"):
        delete_dataset(home, dataset.id)
    delete_dataset(home, other.id)
    for path in (home / "runs").glob("run-*"):
        path.rename(path.with_name(f".trash-{path.name}"))  # as a run is deleted
    delete_dataset(home, dataset.id)
    assert folders(home) == [] and not folder.exists()


def test_case_39_a_purge_that_fails_leaves_no_half_and_is_done_later(home, monkeypatch):
    dataset = stored(home, "a")
    monkeypatch.setattr(dataset_use.shutil, "rmtree", lambda *_args, **_options: None)
    delete_dataset(home, dataset.id)
    monkeypatch.undo()
    (left,) = folders(home)
    assert left.startswith(".trash-") and list_datasets(home) == []
    again = stored(home, "a")
    assert again.id == dataset.id and folders(home) == [again.id]


def test_case_39_a_folder_that_cannot_be_renamed_stays_whole(home, monkeypatch):
    dataset = stored(home, "a")

    def refuse(*_args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(dataset_use.os, "rename", refuse)
    with pytest.raises(UserError, match="could not be deleted"):
        delete_dataset(home, dataset.id)
    assert open_dataset(home, dataset.id) == dataset


@pytest.mark.parametrize("bad", ["", "../runs", ".", "0" * 16, "a/b", None])
def test_only_ids_are_deleted(home, bad):
    dataset = stored(home, "a")
    with pytest.raises(UserError):
        delete_dataset(home, bad)
    assert folders(home) == [dataset.id]


def test_case_39_no_run_begins_with_data_that_was_deleted(home):
    from trainer_backend.recipe.recipe import Recipe
    from trainer_backend.runs.create import create_run, list_runs

    dataset = stored(home, "a")
    delete_dataset(home, dataset.id)
    with pytest.raises(UserError, match="no such dataset"):
        create_run(home, Recipe(), dataset)
    assert list_runs(home) == []
    dataset = stored(home, "a")
    run = create_run(home, Recipe(), dataset, name="mine")
    with pytest.raises(UserError, match="“mine”"):
        delete_dataset(home, dataset.id)
    assert run.dataset() == dataset
