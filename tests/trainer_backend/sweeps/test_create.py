"""Values to try, the runs they make, their time, and how a sweep is kept."""

import pytest

from trainer_backend.errors import UserError
from trainer_backend.hardware import Hardware
from trainer_backend.recipe import Recipe
from trainer_backend.runs import cancel, list_runs
from trainer_backend.sweeps import (
    create_sweep,
    group_of,
    list_sweeps,
    open_sweep,
    parse_tries,
    plan_sweep,
)

CPU = Hardware("cpu", "CPU", 1, 24.0, 20.0, 2, True)


@pytest.fixture
def plan(home, dataset, tiny_model_dir):
    recipe = Recipe(base_model=str(tiny_model_dir), max_steps=20)

    def of(*tries: str, changes: dict | None = None, **more):
        changed = Recipe.from_dict({**recipe.to_dict(), **(changes or {})})
        return plan_sweep(home, changed, dataset, parse_tries(tries), **more)

    return of


def test_values_are_read_between_commas_or_bars():
    assert parse_tries(
        ["learning_rate=1e-4, 2e-4", "lora_target_modules=q_proj,v_proj|all-linear"]
    ) == {
        "learning_rate": ["1e-4", "2e-4"],
        "lora_target_modules": ["q_proj,v_proj", "all-linear"],
    }


def test_the_product_of_the_values_is_queued_in_order(home, dataset, plan):
    found = plan("learning_rate=1e-4,2e-4", "lora_r=4,8,16")
    sweep = create_sweep(home, found, dataset, preset="quick_try")
    assert [one.values for one in sweep.runs] == [
        {"learning_rate": rate, "lora_r": rank} for rate in (1e-4, 2e-4) for rank in (4, 8, 16)
    ]
    runs = sweep.runs_here(home)
    assert [run.state()["state"] for run in runs] == ["queued"] * 6
    assert runs[1].name() == "Learning rate 0.0001, LoRA rank 8 (numbers)"
    assert (runs[1].recipe().learning_rate, runs[1].recipe().lora_r) == (1e-4, 8)
    queued = [run.state()["queued_at"] for run in runs]
    assert queued == sorted(queued)
    assert list_sweeps(home) == [sweep] == [open_sweep(home, sweep.id)]
    assert group_of(runs[5]) == sweep
    assert sweep.name == "Learning rate and LoRA rank on numbers"


def test_deleted_runs_and_damaged_files_are_left_out(home, dataset, plan):
    sweep = create_sweep(home, plan("lora_r=4,8"), dataset, name="Ranks")
    first, second = sweep.runs_here(home)
    assert second.name() == "LoRA rank 8 (Ranks)"
    (home / "sweeps" / "sweep-broken.json").write_text("{")
    assert [one.id for one in list_sweeps(home)] == [sweep.id]
    for run in (first, second):
        cancel(run.dir)
        run.delete()
    assert list_sweeps(home) == [] and list_runs(home) == []
    with pytest.raises(UserError, match="no such sweep"):
        open_sweep(home, "sweep-0")


def test_settings_without_effect_make_one_run(plan):
    found = plan("adapter=full,lora", "lora_r=4,8")
    assert [one.words() for one in found.runs] == [
        "Method Full",
        "Method LoRA, LoRA rank 4",
        "Method LoRA, LoRA rank 8",
    ]
    assert found.notes == ["1 combination is the same run as another and is left out."]


def test_the_sentence_adds_the_runs_up(plan, monkeypatch):
    from trainer_backend.estimation import Range
    from trainer_backend.sweeps import create

    def of(seconds: Range | None, fits: bool = True):
        class Found:
            pass

        Found.seconds, Found.fits = seconds, fits
        monkeypatch.setattr(create, "estimate", lambda *_, **__: Found)

    of(Range(900.0, 1200.0, 2000.0))
    found = plan("lora_r=1,2,3,4,5,6", machine=CPU)
    assert found.sentence() == "6 runs, about 2 hours"
    assert (found.seconds.low, found.seconds.high) == (5400, 12000)
    pair = Hardware("cuda", "X", 2, 80.0, 80.0, 16, True)
    assert plan("lora_r=1,2,3,4", "seed=1,2", machine=pair).sentence() == "8 runs, about 2.5 hours"
    of(None, fits=False)
    found = plan("lora_r=1,2", machine=CPU)
    assert found.sentence() == "2 runs; how long they take is not known"
    assert found.notes == [
        "2 runs are too large for this machine and may fail: LoRA rank 1; LoRA rank 2."
    ]


def test_a_real_estimate_is_behind_the_sentence(plan):
    found = plan("learning_rate=1e-4,2e-4")
    assert found.sentence().startswith("2 runs, about ") and found.seconds.low > 0


@pytest.mark.parametrize(
    ("tries", "what"),
    [
        ([], "No setting was chosen"),
        (["lora_r=8"], "“LoRA rank” (lora_r) has one value only."),
        (["lora_rr=8,9"], "Unknown setting “lora_rr”."),
        (["learning_rate=1e-4,9"], "“learning_rate” cannot be '9'."),
        (["learning_rate=1e-4,0.0001"], "“Learning rate” (learning_rate) has the value 0.0001"),
        (["lora_r=1,2,3,4,5", "seed=1,2,3,4,5"], "5 × 5 values are 25 runs; a sweep has at most"),
        (["lora_r"], "“lora_r” names no values."),
        (["lora_r=1,2", "lora_r=3,4"], "“lora_r” is tried twice."),
    ],
)  # fmt: skip
def test_mistakes_are_named_before_anything_is_queued(home, plan, tries, what):
    with pytest.raises(UserError) as caught:
        plan(*tries)
    assert caught.value.what.startswith(what)
    assert list_runs(home) == [] and list_sweeps(home) == []


@pytest.mark.parametrize(
    ("tries", "changes", "what"),
    [
        ("lora_r=4,8", {"adapter": "full"}, "“LoRA rank” (lora_r) has no effect with these"),
        ("seed=1,2", {}, "Runs that differ in “Seed” (seed) cannot be stopped early"),
        ("max_length=64,128", {}, "Runs that differ in “Maximum length” (max_length) cannot"),
        ("lora_r=4,8", {"eval_fraction": 0.0}, "Runs can be stopped early only by evaluations"),
        ("lora_r=4,8", {"eval_steps": 0}, "Runs can be stopped early only by evaluations"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_not_stopped_early(plan, tries, changes, what):
    with pytest.raises(UserError) as caught:
        plan(tries, changes=changes, halving=True)
    assert caught.value.what.startswith(what)


def test_scores_that_do_not_compare_are_said(plan):
    assert plan("seed=1,2").notes == [
        "Runs that differ in “Seed” (seed) hold out different rows: "
        "a small difference of their scores means nothing."
    ]
    assert "by their answers alone" in plan("max_length=64,128").notes[0]
