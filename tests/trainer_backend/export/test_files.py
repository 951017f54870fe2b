"""An export is offered only whole: interrupted ones leave nothing, damaged ones are refused."""

import os
import time
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from trainer_backend.errors import UserError
from trainer_backend.export.files import check_weights, sweep, zip_folder


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "run-1" / "adapter"
    folder.mkdir(parents=True)
    save_file({"weight": np.ones((4, 4), np.float32)}, folder / "adapter_model.safetensors")
    (folder / "README.md").write_text("about it")
    return folder


def test_a_zip_holds_every_file_as_it_is(folder):
    archive = zip_folder(folder)
    with zipfile.ZipFile(archive) as found:
        assert sorted(found.namelist()) == ["README.md", "adapter_model.safetensors"]
        assert found.read("README.md") == b"about it"
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_case_40_an_interrupted_export_is_never_offered_and_the_next_one_is_whole(
    folder, monkeypatch
):
    before = zip_folder(folder).read_bytes()
    write = zipfile.ZipFile.write

    def torn(self, file, name):
        if str(name) == "adapter_model.safetensors":
            raise OSError(28, "No space left on device")
        write(self, file, name)

    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(zipfile.ZipFile, "write", torn)
        zip_folder(folder)
    assert folder.with_name("run-1-adapter.zip").read_bytes() == before  # the one of before stays
    killed = folder.with_name(".zip-killed")
    killed.write_bytes(b"half")
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(killed, (long_ago, long_ago))
    assert zipfile.ZipFile(zip_folder(folder)).testzip() is None
    assert not killed.exists()


def test_case_40_bytes_that_changed_on_the_disk_are_noticed(folder, monkeypatch):
    monkeypatch.setattr(zipfile.ZipFile, "testzip", lambda self: "README.md")
    with pytest.raises(UserError, match="README.md is damaged"):
        zip_folder(folder)
    assert list(folder.parent.glob("*.zip")) == []


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x10\0\0\0\0\0\0\0{}              "])
def test_weights_that_cannot_be_loaded_are_named(folder, content):
    check_weights(folder)
    (folder / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="adapter_model.safetensors"):
        check_weights(folder)


def test_an_export_that_goes_on_is_not_swept(folder):
    going_on = folder.with_name(".export-now")
    going_on.mkdir()
    sweep(folder.parent)
    assert going_on.is_dir()
