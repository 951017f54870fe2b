"""Which model answers for a run id, a folder or a model id."""

import subprocess
import sys

import pytest
from run_files import set_state

from trainer_backend.errors import UserError
from trainer_backend.runs.target import find_target


def test_an_earlier_checkpoint_can_be_chosen(home, finished):
    assert find_target(home, finished.id, 2).checkpoint.name == "checkpoint-2"
    with pytest.raises(UserError):
        find_target(home, finished.id, 3)


def test_a_run_is_found_by_its_folder_in_the_precision_it_was_trained_in(home, finished):
    set_state(finished, precision="bf16")
    target = find_target(home, str(finished.dir))
    assert target.precision == "bf16" and target.has_adapter
    assert target.checkpoint == finished.result().path


def test_a_model_id_is_talked_to_without_a_checkpoint(home):
    target = find_target(home, "some/model")
    assert target.base_model == "some/model"
    assert target.checkpoint is None and not target.has_adapter


def test_a_run_without_a_checkpoint_cannot_be_talked_to(home, run):
    with pytest.raises(UserError) as caught:
        find_target(home, run.id)
    assert "checkpoint" in caught.value.what


def test_targets_and_snippets_are_found_without_torch():
    code = (
        "import sys, trainer_backend.runs.target, trainer_backend.models.snippets\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False", done.stderr
