"""The stored datasets: list, weights of a mix, the empty list."""

import pytest

from sft_ui.data.dataset_list import dataset_list, read_weights
from trainer_backend.errors import UserError


def test_the_list_marks_what_is_shown(dataset):
    html = dataset_list([dataset], dataset.id)
    assert "Sixty" in html and "60 examples" in html and 'aria-current="true"' in html
    assert 'aria-current="true"' not in dataset_list([dataset], "")
    assert "No stored datasets yet" in dataset_list([], "")


def test_data_that_cannot_train_has_no_weight(home):
    from trainer_backend.data.store.uploads import create_from_rows

    rows = [{"left": f"l{n}", "right": f"r{n}"} for n in range(30)]
    unclear = create_from_rows(home, rows, name="Unclear")
    html = dataset_list([unclear], "")
    assert "data-weight" not in html and "data-remove" in html


def test_weights_are_numbers_above_zero():
    assert read_weights({"a": 1, "b": 0.5, "c": 0}) == [("a", 1.0), ("b", 0.5)]


@pytest.mark.parametrize("weights", [None, {}, {"a": 1}, {"a": 1, "b": "2"}, {"a": 1, "b": True}])
def test_a_mix_of_one_is_refused(weights):
    with pytest.raises(UserError, match="two datasets"):
        read_weights(weights)
