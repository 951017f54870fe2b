"""A run's settings as the trainer's arguments, and its rows as the trainer's columns."""

from dataclasses import replace

import numpy as np
import pytest

from trainer_backend.errors import UserError
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.files import ROWS
from trainer_backend.worker import arguments as room
from trainer_backend.worker.arguments import NEVER, shards_model, training_arguments, training_rows
from trainer_backend.worker.facts import RunFacts


@pytest.fixture
def make_facts(run):
    """The facts of a run with other settings: make_facts(save_steps=0, ...)."""
    facts = RunFacts.load(run)
    settings = {"precision": "fp32", "report_to": "none"}
    return lambda **changes: replace(facts, recipe=Recipe(**{**settings, **changes}))


@pytest.mark.parametrize(("asked", "given"), [(0, NEVER), (0.25, 0.25), (3.0, 3)])
def test_saves_and_evaluations_come_as_often_as_asked(make_facts, asked, given):
    facts = make_facts(save_steps=asked, eval_steps=asked)
    arguments = training_arguments(facts, has_eval=True)
    assert arguments.save_steps == arguments.eval_steps == given
    assert training_arguments(facts, has_eval=False).eval_strategy == "no"


def test_rows_with_images_are_not_packed(make_facts):
    facts = make_facts(packing=True)
    assert training_arguments(facts, has_eval=False).packing
    assert not training_arguments(facts, has_eval=False, has_images=True).packing


def test_one_process_holds_the_whole_model():
    assert not shards_model(Recipe(distributed="fsdp"))


def test_rows_are_those_of_the_split_and_none_is_a_mistake_of_the_user(make_facts):
    facts = make_facts()
    train, held_out = training_rows(facts)
    assert (len(train), len(held_out)) == (len(facts.train_at), len(facts.held_out_at))
    with pytest.raises(UserError, match="No row is left"):
        training_rows(replace(facts, train_at=np.array([], np.int64)))


@pytest.mark.parametrize(("precision", "scaled"), [("int4", True), ("int8", True), ("fp32", False)])
def test_quantised_weights_are_scaled_on_a_card_without_bf16(
    make_facts, monkeypatch, precision, scaled
):
    monkeypatch.setattr(room, "SFTConfig", lambda **given: given)
    assert training_arguments(make_facts(precision=precision), False)["fp16"] is False
    monkeypatch.setattr(room, "fp16_instead", lambda device: True)
    assert training_arguments(make_facts(precision=precision), False)["fp16"] is scaled


def test_many_rows_lie_in_the_runs_folder(make_facts, monkeypatch):
    facts = make_facts()
    held = training_rows(facts)
    monkeypatch.setattr("trainer_backend.tokens.training_rows.ON_DISK", 0)
    filed = training_rows(facts)
    assert [one[:] for one in filed] == [one[:] for one in held]
    assert (facts.run.dir / ROWS).is_dir() and filed[0].cache_files
