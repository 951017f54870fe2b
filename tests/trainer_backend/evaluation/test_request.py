"""What may be asked of an evaluation, and how it is refused."""

import shutil

import pytest
from evaluated import FakeEngine
from run_files import set_state

from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.errors import UserError
from trainer_backend.evaluation.request import NAMES, Request, request_of
from trainer_backend.home import write_json
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.checkpoints import commit
from trainer_backend.runs.create import create_run


def give_checkpoints(run, losses):
    """Committed checkpoints of steps 2, 4, …, with these evaluation losses."""
    for step, loss in enumerate(losses, 1):
        folder = run.dir / "checkpoints" / f"checkpoint-{2 * step}"
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text("{}")
        commit(folder, 2 * step, loss, run.id)
    set_state(run, state="finished")


@pytest.fixture
def ended(run):
    give_checkpoints(run, [2.0, 1.0, 3.0])
    return run


def refused(run, **options) -> UserError:
    with pytest.raises(UserError) as caught:
        request_of(run, options).check(run)
    return caught.value


@pytest.mark.parametrize(
    "checkpoint, steps",
    [(None, [6]), ("last", [6]), ("best", [4]), ("all", [2, 4, 6]), ("4", [4]), (2, [2])],
)
def test_a_checkpoint_is_a_step_or_a_word(ended, checkpoint, steps):
    assert request_of(ended, {"checkpoint": checkpoint}).check(ended) == steps


def test_each_checkpoint_is_evaluated_on_its_own_as_asked(ended, dataset):
    engine = FakeEngine()
    values = {"dataset_id": dataset.id, "rows": "5", "checkpoint": "all"}
    asked = request_of(ended, {**values, "metrics": "chrf, Loss,chrf"})
    found = list(asked.evaluations(ended, engine.evaluate_run))
    assert [one.checkpoint for one in found] == [2, 4, 6]
    assert [call["checkpoint"] for call in engine.calls] == [2, 4, 6]
    given = engine.calls[0]
    assert given["rows"] == 5
    assert given["metrics"] == "chrf,loss"
    assert given["dataset"] == dataset.id


@pytest.mark.parametrize(
    "options, words",
    [
        ({"metrics": "f1_token"}, "There is no measure “f1_token”."),
        ({"metrics": 3}, "no list of measures"),
        ({"rows": 0}, "not a number of rows"),
        ({"rows": "-3"}, "not a number of rows"),
        ({"rows": True}, "not a number of rows"),
        ({"checkpoint": "newest"}, "“newest” is no checkpoint"),
        ({"checkpoint": 5}, "There is no checkpoint 5."),
        ({"dataset_id": "dataset-000000000000"}, "no such dataset"),
        ({"data": "x.csv"}, "Unknown option “data”."),
    ],
)
def test_a_mistake_is_named(ended, options, words):
    assert words in refused(ended, **options).what


def test_a_measure_with_a_typing_error_is_guessed(ended):
    error = refused(ended, metrics=["rouge"])
    assert error.fix.startswith("Perhaps rouge_l is meant.") and all(
        name in error.fix for name in NAMES
    )


def test_a_run_without_a_checkpoint_or_a_best_one_says_so(run):
    assert "no checkpoint yet" in refused(run).what
    give_checkpoints(run, [None])
    assert "none is known to be the best" in refused(run, checkpoint="best").what


def test_a_run_that_trains_here_is_left_alone(ended):
    set_state(ended, state="running")
    assert "still training on this machine" in refused(ended).what
    write_json(ended.dir / "worker.json", {"host": "another-machine"})
    assert Request().check(ended) == [6]


def test_without_held_out_rows_other_rows_are_asked_for(home, dataset):
    run = create_run(home, Recipe(max_steps=4, eval_fraction=0), dataset)
    give_checkpoints(run, [None])
    error = refused(run)
    assert "holds out no rows" in error.what and "--data" in error.fix
    assert request_of(run, {"dataset_id": dataset.id}).check(run) == [2]


def test_deleted_data_are_named_and_other_rows_still_work(home, ended, dataset):
    other = create_from_rows(home, [{"prompt": "a", "response": "b"}], name="one row")
    shutil.rmtree(dataset.dir)
    error = refused(ended)
    assert "no longer here" in error.what and "numbers" in error.where
    assert request_of(ended, {"dataset_id": other.id}).check(ended) == [6]
