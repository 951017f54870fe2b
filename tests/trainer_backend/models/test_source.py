"""Where models come from: folders are checked before anything of them is used, ids are only ids."""

import json
import time

import pytest

from trainer_backend.errors import UserError
from trainer_backend.models import source as model_source
from trainer_backend.models.source import check_folder, download_from_hub, locate_model
from trainer_backend.recipe.recipe import STARTER_MODEL


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (path / "model.safetensors").write_bytes(b"x")
    return path


def refused(folder):
    with pytest.raises(UserError) as caught:
        check_folder(folder)
    return caught.value


def test_a_whole_model_folder_is_accepted(home, folder):
    source = locate_model(home, str(folder))
    assert source.kind == "folder" and source.folder == folder.resolve()


def test_the_starter_is_known_by_its_hub_id(home):
    assert locate_model(home, STARTER_MODEL).folder is None
    here = home / "models" / "SmolLM2-135M-Instruct"
    here.mkdir()
    (here / "config.json").write_text("{}")
    assert locate_model(home, STARTER_MODEL).folder == here


def test_a_folder_without_weights_names_what_is_there_instead(folder):
    (folder / "model.safetensors").unlink()
    assert "holds no weights" in refused(folder).what
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert "pytorch_model.bin" in refused(folder).what


def test_an_adapter_folder_says_that_it_is_one(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "adapter" in refused(tmp_path).fix


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-here/model", "a\0b", "../..x", ""])
def test_a_name_of_nothing_is_refused(home, name):
    with pytest.raises(UserError, match="no such model"):
        locate_model(home, name)


@pytest.mark.parametrize("text", ["", "[1]", "{", "null"])
def test_a_broken_config_is_named(folder, text):
    (folder / "config.json").write_text(text)
    assert str(folder) in refused(folder).where


@pytest.mark.parametrize("config", [{}, {"model_type": "a\nb"}, {"model_type": "x" * 100}])
def test_a_model_type_that_is_no_name_is_refused(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    assert "model type" in refused(folder).what


def test_a_model_with_code_of_its_own_is_refused(folder):
    config = {"model_type": "llama", "auto_map": {"AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    assert "code" in refused(folder).what


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "missing.safetensors"])
def test_weights_outside_the_folder_are_refused(folder, name):
    index = {"weight_map": {"layer": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert name in refused(folder).what


@pytest.mark.parametrize(
    "name",
    ["", "nope", "a/b/c", "http://host/a", "file:///etc", "../a/b", "a/../b", "a b/c", "git+x/y"],
)
def test_what_is_neither_a_folder_nor_an_id_is_refused_at_once(home, name):
    with pytest.raises(UserError) as caught:
        locate_model(home, name)
    assert "owner/name" in caught.value.fix


def test_an_unknown_id_without_network_is_a_quick_clear_message(monkeypatch):
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        download_from_hub("nobody/no-such-model")
    assert time.monotonic() - began < 20
    assert "nobody/no-such-model" in caught.value.where and caught.value.fix


def test_a_tokenizer_in_the_cache_is_not_taken_for_the_whole_model(folder, monkeypatch):
    (folder / "model.safetensors").unlink()
    (folder / "tokenizer.json").write_text("{}")
    monkeypatch.setattr(model_source.hub, "snapshot_download", lambda *_, **__: str(folder))
    assert download_from_hub("own/er", weights=False) == folder
    with pytest.raises(UserError, match="Hub cannot be reached"):
        download_from_hub("own/er")
    (folder / "model.safetensors").write_bytes(b"x")
    assert download_from_hub("own/er") == folder
    (folder / "tokenizer.json").unlink()  # only the config was looked at so far
    with pytest.raises(UserError, match="Hub cannot be reached"):
        download_from_hub("own/er", weights=False)
