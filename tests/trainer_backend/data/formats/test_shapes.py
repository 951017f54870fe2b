"""Every way to spread examples over columns: what it becomes, and what is said about it."""

import json

import pytest

from tests.trainer_backend.data.formats.shapes import SHAPES, Shape
from trainer_backend.data.formats.columns.choice import mapping_of, parse_columns
from trainer_backend.data.store import create_dataset


def stored(tmp_path, shape: Shape, **how):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(shape.rows), encoding="utf-8")
    return create_dataset(tmp_path / "home", path, **how)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_shape(tmp_path, shape):
    found = stored(tmp_path, shape)
    problems = [f"{one.what} {one.fix}" for one in found.problems]
    words = " ".join([found.sentence, *found.notes, *problems])
    assert [one for one in shape.said if one not in words] == []
    assert found.sure is not shape.asks
    if shape.asks:
        assert found.num_examples == 0 and found.problems[0].severity == "error"
        assert bool(found.chosen) is shape.chosen
        if not (shape.columns or shape.chosen):
            return
        mapping = mapping_of(parse_columns([shape.columns]), "x") if shape.columns else None
        found = stored(tmp_path, shape, mapping=mapping, chosen=shape.chosen)
    made = list(found.examples())
    assert [one.text for one in made if one.text is not None] == list(shape.texts)
    assert [tuple(one.messages) for one in made if one.messages] == list(shape.talks)


def test_the_line_on_offer_is_the_one_that_helps(tmp_path):
    asked = set()
    for shape in SHAPES:
        if not shape.columns:
            continue
        fix = stored(tmp_path, shape).problems[0].fix
        if f"--columns {shape.columns}" not in fix:
            assert "--columns prompt=COLUMN,completion=COLUMN" in fix
            asked.add(shape.name)
    assert asked == {"Other names", "Language pairs"}, "neither names nor cells tell the sides"
