"""What follows data, preset and model, and what the user changed and keeps."""

import json

import pytest

from sft_ui.model.basis import Basis, baseline, followed, preset_for, read_basis, with_data
from sft_ui.recipe_form import form_values
from trainer_backend.recipe import Data, Recipe, recipe_from

STARTER = Recipe().base_model


def test_the_kind_of_data_chooses_the_preset_until_the_user_does():
    assert preset_for("quick_try", Basis(), is_sample=False) == "balanced"
    assert preset_for("balanced", Basis(), is_sample=True) == "quick_try"
    for own in (Basis(own_preset=True), Basis(kept=True)):
        assert preset_for("careful", own, is_sample=False) == "careful"


def test_fields_follow_unless_the_user_changed_them(tmp_path):
    old, new = (baseline(tmp_path, name, STARTER, {}) for name in ("quick_try", "balanced"))
    values = {**form_values(old), "learning_rate": "0.5", "seed": 9}
    changes = followed(values, old, new)
    assert changes["max_steps"] == -1 and changes["eval_fraction"] == 0.05
    assert not {"learning_rate", "seed", "base_model"} & set(changes)
    assert followed(values, old, old) == {}


def test_the_length_stays_while_the_same_rows_are_counted_anew():
    preset, uncounted = recipe_from("balanced"), Data(1_000)
    counted = with_data(Basis(), preset, "d1", Data(1_000, [90] * 9))
    assert counted.settings == {"max_length": 128} and counted.base_model == STARTER
    assert with_data(counted, preset, "d1", uncounted).settings == {"max_length": 128}
    assert with_data(counted, preset, "d2", uncounted).settings == {}
    assert with_data(counted, preset, "d1", None).reasons == {}


@pytest.mark.parametrize(
    "kept",
    [None, 3, [], {"settings": []}, {"settings": {"seed": "x"}}, {"own_preset": 1}]
    + [{"reasons": {"seed": 3}}, {"settings": {"nope": 1}}],
)
def test_a_damaged_basis_of_a_browser_is_the_default(kept):
    assert read_basis(kept) == Basis()


def test_a_basis_comes_back_from_a_browser():
    basis = Basis(True, False, STARTER, "d1", {"max_length": 64}, {"max_length": "Why."})
    assert read_basis(json.loads(json.dumps(basis.to_dict()))) == basis
    assert read_basis({**basis.to_dict(), "newer": 1}) == basis
