"""A finished run that no model stands behind, a client that answers for it, and blind tests."""

import pytest
from blind_tests import add_evaluation, give_checkpoint

from trainer_backend.comparison.blind.keeping import keep
from trainer_backend.comparison.blind.questions import Wanted, new_test
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import create_run


@pytest.fixture
def trained(home, dataset):
    """A run with a checkpoint of step 4 and twelve held-out rows."""
    recipe = Recipe(max_steps=4, eval_fraction=0.3)
    return give_checkpoint(create_run(home, recipe, dataset, name="Mine"))


@pytest.fixture
def other(home, dataset):
    """Another run on the same data, with other held-out rows."""
    made = create_run(home, Recipe(max_steps=4, eval_fraction=0.3, seed=7), dataset, name="Another")
    return give_checkpoint(made)


@pytest.fixture
def kept(trained):
    """A kept test of ten rows whose answers an evaluation has; none are the same."""
    add_evaluation(trained, 10)
    test = new_test(trained, wanted=Wanted(10), seed=3)
    keep(trained, test)
    return test
