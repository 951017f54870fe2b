"""Successive halving: who is clearly behind, and how it is said."""

import json

import pytest
from run_files import set_state

from trainer_backend.recipe import Recipe
from trainer_backend.runs import open_run
from trainer_backend.sweeps import HalvingWatch, create_sweep, parse_tries, plan_sweep, standing
from trainer_backend.sweeps.halving import why_behind


def line(*losses: float) -> list[tuple[float, float]]:
    """A curve with an evaluation after each tenth of the run."""
    return [(at / 10, loss) for at, loss in enumerate(losses, 1)]


@pytest.mark.parametrize(
    ("own", "others", "stops"),
    [
        (line(3, 3), [line(1, 1, 1)] * 3, False),  # before the first rung
        (line(3, 3, 3), [line(1, 1, 1)] * 3, True),
        (line(3, 3, 3), [line(1, 1)], False),  # nobody has come as far
        (line(3, 3, 3), [line(1, 1, 4), line(2, 2, 4)], True),  # the best up to there counts
        (line(3, 2, 3), [line(5, 5, 5), line(5, 5, 6)], False),
        (line(3, 3, 1.005), [line(1, 1, 1)], False),  # within one per cent
        (line(3, 3, 1.02), [line(1, 1, 1)], True),
        (line(1, 1, 1), [line(3, 3, 0.9), line(3, 3, 3)], False),  # second of three goes on
        (line(2, 2, 2), [line(3, 3, 0.9), line(3, 3, 1)], True),
        (line(1, 1, 1, 1, 9), [line(2, 2, 2, 2, 0.5), line(2, 2, 2, 2, 0.6)], True),
        ([], [line(1, 1, 1)], False),
    ],
)
def test_the_better_half_goes_on(own, others, stops):
    assert bool(why_behind(own, others, "S")) == stops


def test_the_reason_has_its_numbers():
    assert why_behind(line(3, 3, 2.5), [line(1, 1, 1.0), line(2, 2, 2)], "Ranks") == (
        "Stopped early by the sweep “Ranks”: after 30% of its steps its evaluation loss was 2.5, "
        "and the better half of 3 runs had 2 or less. Resume it to train it to the end."
    )


@pytest.fixture
def sweep(home, dataset, tiny_model_dir):
    recipe = Recipe(base_model=str(tiny_model_dir), max_steps=10, eval_fraction=0.2)
    plan = plan_sweep(home, recipe, dataset, parse_tries(["lora_r=2,4"]), halving=True)
    return create_sweep(home, plan, dataset)


def play(run, state: str, losses) -> None:
    rows = [{"type": "eval", "step": at, "eval_loss": loss} for at, loss in enumerate(losses, 1)]
    (run.dir / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    set_state(run, state=state, total_steps=10, step=len(losses), eval_loss=losses[-1])


def test_a_run_is_stopped_once_and_is_told_why(home, sweep):
    first, second = sweep.runs_here(home)
    play(first, "finished", [1.0] * 10)
    play(second, "running", [2.0] * 2)
    watch = HalvingWatch(home)
    assert watch.look() == [], "it has not come to a quarter"
    play(second, "running", [2.0, 2.0, 1.9])
    assert watch.look() == [], "not again at once"
    watch.next_look = 0.0
    assert watch.look() == [second]
    watch.next_look = 0.0
    assert watch.look() == []
    # after a restart of the app, with the run stopped by its worker
    set_state(second, state="paused", warnings=["Cut rows."])
    HalvingWatch(home).look()
    HalvingWatch(home).look()
    (cut, why) = open_run(home, second.id).state()["warnings"]
    assert cut == "Cut rows."
    assert why.startswith("Stopped early by the sweep “LoRA rank on numbers”")
    assert standing(home, sweep).outcomes[1].why == why
    play(second, "running", [2.0] * 5)  # resumed by its owner
    assert HalvingWatch(home).look() == []


def test_without_halving_nothing_is_stopped(home, dataset, tiny_model_dir):
    recipe = Recipe(base_model=str(tiny_model_dir), max_steps=10, eval_fraction=0.2)
    plan = plan_sweep(home, recipe, dataset, parse_tries(["lora_r=2,4"]))
    first, second = create_sweep(home, plan, dataset).runs_here(home)
    play(first, "finished", [1.0] * 10)
    play(second, "running", [2.0] * 5)
    assert HalvingWatch(home).look() == []
