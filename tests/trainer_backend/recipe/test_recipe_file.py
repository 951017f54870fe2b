"""A recipe file: what is saved is what is loaded; what is broken is refused with its place."""

import pytest

from trainer_backend.errors import UserError
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.recipe.recipe_file import load_recipe, read_recipe, save_recipe


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


BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 8)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"max_steps: 5\nmax_step: 6\n", "Unknown setting “max_step”"),
        (b"max_steps: many\n", "cannot be 'many'"),
        (b"max_steps: 5\nmax_steps: 6\n", "“max_steps” is set twice"),
        (b"max_steps:\n- 5\n", "holds a list"),
        (("max_steps: " + "[" * 5_000).encode(), "not valid YAML"),
        (BOMB.encode() + b"seed: *i\n", "holds a list"),
        (b"seed: 1\n# " + b"x" * 1_000_001, "too large for a recipe (1 MB)"),
        ("system_prompt: Käse".encode("latin-1"), "cannot be read"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "cannot be read"),
        (b"just a sentence", "not a list of settings"),
        (b"{1: 2}", "Unknown setting “1”"),
        (b"? [a, b]\n: 2\n", "not valid YAML"),
        (b"seed: 2001-99-99\n", "not valid YAML"),
    ],
)
def test_what_is_no_recipe_is_refused_in_words(tmp_path, content, words):
    path = tmp_path / "secret-folder.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_recipe(path, "mine.yaml")
    said = f"{caught.value.what} {caught.value.where} {caught.value.fix}"
    assert words in said and "mine.yaml" in said and "secret-folder" not in said
    assert len(said) < 2_000


def test_a_byte_order_mark_and_an_empty_file_are_read(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xef\xbb\xbfmax_steps: 5\n")
    assert read_recipe(path, "r") == Recipe(max_steps=5)
    path.write_bytes(b"")
    assert read_recipe(path, "r") == Recipe()
