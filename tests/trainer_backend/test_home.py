"""The home folder: made when missing, refused in words, files replaced whole."""

import errno
import json
import os

import pytest

from trainer_backend.errors import CODES, Problem, UserError
from trainer_backend.home import FOLDERS, check_id, new_id, open_home, read_json, write_json


def test_a_home_is_made_with_its_folders(tmp_path):
    home = open_home(tmp_path / "deep" / "home")
    assert {path.name for path in home.iterdir()} == set(FOLDERS)
    assert open_home(home) == home


def test_the_environment_names_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("SFT_STUDIO_HOME", str(tmp_path / "env"))
    assert open_home() == (tmp_path / "env").resolve()
    monkeypatch.delenv("SFT_STUDIO_HOME")
    monkeypatch.chdir(tmp_path)
    assert open_home() == (tmp_path / "workspace").resolve()


def test_a_home_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError) as caught:
        open_home(tmp_path / "file")
    assert str(tmp_path / "file") in caught.value.where and "--home" in caught.value.fix


@pytest.mark.parametrize("how", ["read-only", "without permission"])
def test_case_25_a_home_that_cannot_be_written_is_refused_with_its_path_and_why(
    tmp_path, monkeypatch, how
):
    """Tests may run as root, whom no mode stops: the system's refusal is played."""
    home = open_home(tmp_path / "home")
    number = errno.EROFS if how == "read-only" else errno.EACCES

    def refused(self, *args, **kwargs):
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(type(home), "write_text", refused)
    with pytest.raises(UserError) as caught:
        open_home(home)
    assert str(home) in caught.value.where and os.strerror(number) in caught.value.where


@pytest.mark.parametrize(
    "value", ["", "..", "../x", "/etc", "a/b", "a\0b", "a" * 65, "ü", "{0}", None, "$(id)", "a b"]
)
def test_only_ids_of_ours_become_paths(value):
    with pytest.raises(UserError):
        check_id(value, "run")


def test_new_ids_are_ids():
    one, two = new_id("run"), new_id("run")
    assert one != two and check_id(one, "run") == one


def test_json_is_strict_and_replaced_whole(tmp_path):
    path = tmp_path / "state.json"
    write_json(path, {"a": "é"})
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": "é"}
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]
    assert read_json(tmp_path / "none.json", default=3) == 3


def test_user_errors_have_three_parts():
    with pytest.raises(ValueError):
        UserError("what", "", "fix")
    plain = {"what": "a", "where": "b", "fix": "c", "code": "", "offer": None}
    assert UserError("a", "b", "c").to_dict() == plain


def test_user_errors_name_what_one_click_would_do():
    offer = {"retry": {"per_device_train_batch_size": 4}}
    error = UserError("a", "b", "c", code="out_of_memory", offer=offer)
    assert json.loads(json.dumps(error.to_dict()))["offer"] == offer
    assert error.code in CODES and all(text.endswith(".") for text in CODES.values())


def test_problems_are_plain_data():
    problem = Problem("warning", "a", "b", "c", rows=(1, 2), count=2)
    assert json.loads(json.dumps(problem.to_dict()))["rows"] == [1, 2]


def test_problems_come_back_from_plain_data_as_they_were():
    problem = Problem("warning", "a", "b", "c", (1, 2), 2, "duplicates", ("keep_one", "drop"))
    assert Problem(**json.loads(json.dumps(problem.to_dict()))) == problem
