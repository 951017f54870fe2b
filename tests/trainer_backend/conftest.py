"""Small homes, datasets and runs for the tests of run folders. Nothing here needs torch."""

import pytest
from run_files import ROWS

from trainer_backend.data.store import create_from_rows
from trainer_backend.home import open_home
from trainer_backend.recipe import Recipe
from trainer_backend.runs import create_run


@pytest.fixture
def home(tmp_path):
    return open_home(tmp_path / "home")


@pytest.fixture
def dataset(home):
    return create_from_rows(home, ROWS, name="numbers")


@pytest.fixture
def run(home, dataset):
    return create_run(home, Recipe(max_steps=4), dataset)
