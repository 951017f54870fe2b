"""Which run of a sweep is marked as the best."""

import pytest
from run_files import set_state

from trainer_backend.evaluation.results import Evaluation, Metric, keep
from trainer_backend.recipe import Recipe
from trainer_backend.sweeps import best_of, create_sweep, parse_tries, plan_sweep, standing


@pytest.fixture
def sweep(home, dataset, tiny_model_dir):
    recipe = Recipe(base_model=str(tiny_model_dir), max_steps=4)
    plan = plan_sweep(home, recipe, dataset, parse_tries(["lora_r=2,4,8"]))
    return create_sweep(home, plan, dataset)


def evaluate(run, score: float, main: str = "exact_match") -> None:
    metric = Metric(0.1, score, "higher", (0.0, 0.1), 40)
    keep(run, Evaluation(run.id, 4, 40, {main: metric}, "better", main, "Better."))


def end(runs, losses, state="finished"):
    for run, loss in zip(runs, losses, strict=True):
        set_state(run, state=state, eval_loss=loss)


def test_by_the_main_measure_of_the_evaluations(home, sweep):
    runs = sweep.runs_here(home)
    end(runs, (1.0, 1.1, 1.2))
    for run, score in zip(runs, (0.5, 0.75, 0.75), strict=True):
        evaluate(run, score)
    found = standing(home, sweep)
    assert (found.best, found.by) == (runs[1].id, "exact_match"), "equal: the lower loss"
    assert found.sentence() == "Best by Exact match: LoRA rank 4 (numbers), 0.75."
    assert [one["best"] for one in found.to_dict()["runs"]] == [False, True, False]


def test_by_the_evaluation_loss_where_one_was_not_evaluated(home, sweep):
    runs = sweep.runs_here(home)
    end(runs, (1.0, 0.9, 1.2))
    evaluate(runs[2], 1.0)
    assert best_of(home, sweep) == runs[1].id
    evaluate(runs[0], 0.5), evaluate(runs[1], 0.5, "chrf")
    assert standing(home, sweep).by == "eval_loss", "their measures differ"


def test_only_finished_runs_and_so_far(home, sweep):
    runs = sweep.runs_here(home)
    assert best_of(home, sweep) is None
    assert standing(home, sweep).sentence() == "No best run yet: 3 runs are not over."
    end(runs[:1], (2.0,))
    end(runs[1:2], (0.5,), state="paused")
    found = standing(home, sweep)
    assert found.best == runs[0].id
    assert found.sentence() == (
        "Best so far (1 to come) by evaluation loss: LoRA rank 2 (numbers), 2."
    )
    assert [one.state for one in found.outcomes] == ["finished", "paused", "queued"]


def test_losses_that_do_not_compare_name_no_best(home, dataset, tiny_model_dir):
    recipe = Recipe(base_model=str(tiny_model_dir), max_steps=4)
    plan = plan_sweep(home, recipe, dataset, parse_tries(["max_length=64,128"]))
    sweep = create_sweep(home, plan, dataset)
    runs = sweep.runs_here(home)
    end(runs, (1.0, 0.5))
    assert best_of(home, sweep) is None
    assert standing(home, sweep).sentence() == "No run can be called the best."
    for run, score in zip(runs, (0.9, 0.5), strict=True):
        evaluate(run, score)
    assert best_of(home, sweep) == runs[0].id
