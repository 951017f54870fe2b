"""A recipe file: what is saved is what is loaded; what is broken is refused with its place."""

import pytest

from trainer_backend.errors import UserError
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.recipe.recipe_file import load_recipe, save_recipe


def test_a_recipe_file_says_the_same_after_saving_and_loading(tmp_path):
    recipe = Recipe(learning_rate=3e-5, system_prompt="Sei höflich: immer.", packing=True)
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_scientific_notation_in_a_recipe_file_is_a_number(tmp_path):
    (tmp_path / "r.yaml").write_text("learning_rate: 2e-4\n")
    assert load_recipe(tmp_path / "r.yaml").learning_rate == 2e-4


@pytest.mark.parametrize(
    "text", ["a: [1", "- just\n- a list\n", "max_steps: !!python/name:os.system\n"]
)
def test_a_broken_recipe_file_is_refused_with_its_place(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_recipe(path)
    assert str(path) in caught.value.where


def test_a_missing_recipe_file_is_refused(tmp_path):
    with pytest.raises(UserError):
        load_recipe(tmp_path / "none.yaml")
