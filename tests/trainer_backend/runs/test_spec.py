"""What a run began with: pinned once, compared at a resume, readable in its older format."""

import json

import pytest
from run_files import set_state
from small_runs import small_run, train_small

from trainer_backend.errors import UserError
from trainer_backend.home import read_json, write_json
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import list_runs, open_run
from trainer_backend.runs.spec import (
    BATCH_FIELDS,
    check_changes,
    file_facts,
    locked_fields,
    package_differences,
    package_versions,
    pin,
    read_spec,
)
from trainer_backend.worker.main import run_worker


def first_format(run) -> None:
    """Make a run's folder look as the first version of this project wrote it."""
    spec = read_json(run.dir / "spec.json")
    for name in ("seeds", "base", "machine", "start"):
        del spec[name]
    del spec["dataset"]["hash"]
    for name in ("early_stopping_patience", "on_out_of_memory", "num_processes", "distributed"):
        del spec["recipe"][name]
    write_json(run.dir / "spec.json", {**spec, "format_version": 1})


def test_a_spec_says_what_the_run_depends_on(run, dataset):
    spec = read_json(run.dir / "spec.json")
    assert spec["format_version"] == 3
    assert spec["dataset"]["hash"] == dataset.hash and dataset.hash
    assert spec["seeds"]["training"] == run.recipe().seed
    assert {"python", "torch", "transformers", "peft"} <= set(spec["packages"])
    assert spec["machine"]["cores"] >= 1 and spec["hardware"]


def test_a_run_of_the_first_format_is_read_listed_and_resumed(home, dataset, tiny_model_dir):
    run = small_run(home, dataset, tiny_model_dir, max_steps=2)
    first_format(run)
    assert run.spec()["format_version"] == 3 and run.spec()["dataset"]["hash"] == ""
    assert run.recipe().on_out_of_memory == "stop"
    assert list_runs(home) == [run] and run.summary()["dataset"] == "numbers"
    assert run_worker(run.dir) == 0
    written = read_json(run.dir / "spec.json")
    assert written["format_version"] == 3 and "model.safetensors" in written["base"]["files"]


def test_a_newer_format_and_a_damaged_one_are_refused_and_do_not_spoil_the_list(run, home):
    spec = read_json(run.dir / "spec.json")
    write_json(run.dir / "spec.json", {**spec, "format_version": 99})
    with pytest.raises(UserError, match="newer version"):
        open_run(home, run.id).spec()
    (run.dir / "spec.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read_spec(run.dir / "spec.json")
    assert list_runs(home) == []


def test_the_worker_pins_the_base_model_once(home, dataset, tiny_model_dir):
    run = train_small(home, dataset, tiny_model_dir, max_steps=2)
    pinned = run.spec()["base"]
    facts = pinned["files"]["model.safetensors"]
    assert facts == file_facts(tiny_model_dir / "model.safetensors") and facts["size"] > 0
    assert {"config.json", "tokenizer.json"} <= set(pinned["files"])
    assert pinned["revision"] is None  # a folder; of the Hub it is the commit


def test_case_43_the_pinned_commit_is_used_after_the_branch_moved(
    home, dataset, tiny_model_dir, monkeypatch
):
    """A fake Hub: a snapshot folder as in its cache, and which commit was asked for."""
    import shutil

    commit = "a" * 40
    snapshot = home / "hub" / "snapshots" / commit
    shutil.copytree(tiny_model_dir, snapshot)
    asked = []

    def fetch(home, base_model, progress=None, revision=None):
        asked.append(revision)
        return snapshot

    monkeypatch.setattr("trainer_backend.worker.train.fetch_model", fetch)
    run = small_run(home, dataset, tiny_model_dir, max_steps=2)
    assert run_worker(run.dir) == 0 and run.spec()["base"]["revision"] == commit
    set_state(run, state="failed")
    assert run_worker(run.dir) == 0
    assert asked == [None, commit]


def test_a_blob_of_the_hub_cache_is_not_read_again(tmp_path):
    digest = "0123456789abcdef" * 4
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / digest).write_bytes(b"weights")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blobs" / digest)
    assert file_facts(tmp_path / "model.safetensors") == {"size": 7, "sha256": digest}


def test_case_19_a_changed_dataset_is_refused_with_both_hashes(home, dataset, tiny_model_dir):
    import pyarrow as pa
    import pyarrow.parquet as pq

    run = train_small(home, dataset, tiny_model_dir, max_steps=2)
    set_state(run, state="failed")
    table = pq.read_table(dataset.examples_path)
    pq.write_table(pa.concat_tables([table.slice(1), table.slice(0, 1)]), dataset.examples_path)
    assert run_worker(run.dir) == 2
    error = run.state()["error"]
    assert error["code"] == "dataset_changed" and dataset.hash[:8] in error["what"]
    assert "new run from these weights" in error["fix"] and "step 2" in error["safe"]


@pytest.mark.parametrize("how", ["size", "content", "gone"])
def test_a_changed_base_model_is_refused_by_file_name(run, dataset, tmp_path, how):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"12345")
    pin(run.dir, folder, None, dataset)
    pin(run.dir, folder, None, dataset)
    weights = folder / "model.safetensors"
    weights.unlink() if how == "gone" else weights.write_bytes(
        b"1" * (5 if how == "content" else 9)
    )
    with pytest.raises(UserError, match="model.safetensors is different") as caught:
        pin(run.dir, folder, None, dataset)
    assert caught.value.code == "base_changed"


def test_case_20_only_more_epochs_may_change(run):
    recipe = run.recipe()
    longer = Recipe.from_dict({**recipe.to_dict(), "max_steps": 9})
    assert check_changes(recipe, longer) == {"max_steps": 9}
    for field, value in {"learning_rate": 1e-5, "seed": 1, "lora_r": 4, "packing": True}.items():
        changed = Recipe.from_dict({**recipe.to_dict(), field: value})
        with pytest.raises(UserError, match=field) as caught:
            check_changes(recipe, changed)
        assert caught.value.code == "settings_locked"
        assert field in locked_fields()
    with pytest.raises(UserError, match="can only increase"):
        check_changes(recipe, Recipe.from_dict({**recipe.to_dict(), "max_steps": 2}))
    assert "num_train_epochs" not in locked_fields()


def test_case_20_a_batch_may_be_split_but_not_changed(run):
    recipe = run.recipe()
    halved = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    assert set(halved) == set(BATCH_FIELDS)
    assert check_changes(recipe, Recipe.from_dict({**recipe.to_dict(), **halved})) == halved
    half = Recipe.from_dict({**recipe.to_dict(), "per_device_train_batch_size": 4})
    with pytest.raises(UserError, match="per_device_train_batch_size"):
        check_changes(recipe, half)


def test_changes_are_kept_beside_the_spec_which_stays_as_it_was(run):
    before = (run.dir / "spec.json").read_text()
    run.change_recipe({"max_steps": 9}, "resumed")
    assert run.recipe().max_steps == 9 and run.settings()["max_steps"] == 9
    assert [(one["changes"], one["why"]) for one in run.recipe_changes()] == [
        ({"max_steps": 9}, "resumed")
    ]
    assert (run.dir / "spec.json").read_text() == before
    assert json.loads(before)["recipe"]["max_steps"] == 4


def test_case_21_other_packages_are_named():
    now = package_versions()
    assert package_differences(now) == []
    assert package_differences({**now, "torch": "1.0"}) == [f"torch {now['torch']} instead of 1.0"]
    assert package_differences({"gone": "1"}) == ["gone missing instead of 1"]
