"""The plan of a run against what the trainer does: rows, steps, tokens, evaluations, saves."""

import random

import numpy as np
import pytest
from small_runs import small_recipe, train_small

from trainer_backend.data.store import create_from_rows
from trainer_backend.data.store.length_report import NOT_LEARNED, LengthReport
from trainer_backend.estimation.lengths import of_report, row_lengths
from trainer_backend.estimation.plan import filler_share, plan_run, steps_of, times_of
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.tokens.counts import token_lengths
from trainer_backend.tokens.packing import filled_length


@pytest.fixture
def stored(home):
    chance = random.Random(1)
    rows = [
        {"prompt": f"Say {n} times", "response": "9 " * chance.randint(1, 40)} for n in range(40)
    ]
    rows[7]["prompt"] = "long " * 200  # its answer is cut away
    return create_from_rows(home, rows, name="numbers")


@pytest.mark.parametrize(
    "settings",
    [
        {"num_train_epochs": 1.5, "gradient_accumulation_steps": 3, "eval_steps": 0.4},
        {"num_train_epochs": 1.0, "packing": True, "save_steps": 0.3, "eval_steps": 2},
    ],
    ids=["accumulated", "packed"],
)
def test_counts_are_those_of_the_training(home, stored, tiny_model_dir, tokenizer, settings):
    settings = {"max_steps": -1, "max_length": 96} | settings
    recipe = small_recipe(tiny_model_dir, **settings)
    lengths = of_report(token_lengths(stored, tokenizer), leave_out=False)
    plan, notes = plan_run(recipe, stored, lengths)
    run = train_small(home, stored, tiny_model_dir, **settings)
    logs = run.metrics()
    seen = [row["num_tokens"] for row in logs if row["type"] == "metrics"]
    assert plan.steps == run.state()["total_steps"]
    assert plan.tokens == pytest.approx(seen[-1], rel=0.1)  # half an epoch draws some of the rows
    assert plan.eval_runs == sum(row["type"] == "eval" for row in logs)
    assert plan.saves == sum(one["type"] == "checkpoint" for one in run.events()[0])
    assert plan.longest_row == min(recipe.max_length, lengths.total.max())
    if not recipe.packing:
        assert any("nothing left to learn" in note for note in notes)


def report_of(total: list[int], first: list[int], trained: list[int]) -> LengthReport:
    arrays = [np.array(one, np.int32) for one in (total, first, np.add(first, trained), trained)]
    return LengthReport(np.arange(len(total)), *arrays, key=f"{total[0]}-{first[-1]}")


def test_rows_are_cut_as_the_setting_says(stored):
    count = stored.num_examples
    report = report_of([100] * count, [60] * count, [40] * count)
    lengths = of_report(report, leave_out=False)
    start, _ = plan_run(Recipe(max_length=80, eval_fraction=0), stored, lengths)
    assert (start.longest_row, start.longest_trained) == (80, 8 * 20)
    end, _ = plan_run(
        Recipe(max_length=80, eval_fraction=0, truncation_mode="keep_end"), stored, lengths
    )
    assert end.longest_trained == 8 * 40
    none, notes = plan_run(Recipe(max_length=50, eval_fraction=0), stored, lengths)
    assert (none.rows, none.steps, none.tokens) == (0, 0, 0)
    assert any("No row" in note for note in notes)


def test_filler_of_joined_rows_is_counted_beside_their_tokens(stored):
    count = stored.num_examples
    lengths = of_report(report_of([100] * count, [60] * count, [40] * count), leave_out=False)
    recipe = Recipe(eval_fraction=0, per_device_train_batch_size=3, gradient_accumulation_steps=2)
    plain, _ = plan_run(recipe, stored, lengths)
    plan, _ = plan_run(recipe, stored, lengths, fills=True)
    # 13 batches of 300 tokens become 304 (a multiple of 256 / 16), the last of 100 becomes 104
    assert plan.filler / plan.step_tokens == pytest.approx((13 * 4 + 4) / 4000)
    assert (plan.longest_batch, plain.longest_batch, plain.filler) == (304, 300, 0)
    assert (plan.step_tokens, plan.tokens) == (plain.step_tokens, plain.tokens)
    padded, _ = plan_run(recipe, stored, lengths, packs=False, fills=True)
    assert padded.filler == 0 and padded.longest_batch == 300


def test_filler_is_that_of_the_trainer():
    rows = np.array([1, 7, 8, 9, 127, 128, 1023, 1024, 1025, 4097, 10**6 + 1])
    wanted = sum(filled_length(int(n)) - int(n) for n in rows) / rows.sum()
    assert filler_share(rows, 1) == pytest.approx(wanted)
    sums = [rows[:6].sum(), rows[6:].sum()]
    assert filler_share(rows, 6) == sum(filled_length(int(n)) - n for n in sums) / rows.sum()


def test_refused_rows_do_not_count(stored):
    count = stored.num_examples
    report = report_of([0] + [10] * (count - 1), [NOT_LEARNED - 1] + [2] * (count - 1), [0] * count)
    report.trained[1:] = 5
    report.end[1:] = 7
    plan, notes = plan_run(Recipe(eval_fraction=0), stored, of_report(report, leave_out=True))
    assert plan.rows == count - 1
    _, notes = plan_run(Recipe(eval_fraction=0), stored, of_report(report, leave_out=False))
    assert any("refuses 1 row" in note for note in notes)


def test_models_that_cannot_pack_are_padded(stored):
    count = stored.num_examples
    report = report_of([10, *[100] * (count - 1)], [2] * count, [5] * count)
    lengths = of_report(report, leave_out=False)
    recipe = Recipe(packing=True, eval_fraction=0, num_train_epochs=1)
    packed, _ = plan_run(recipe, stored, lengths)
    padded, notes = plan_run(recipe, stored, lengths, packs=False)
    assert padded.steps > packed.steps and any("padded" in note for note in notes)
    assert padded.longest_batch == 8 * 100


def test_lengths_are_guessed_until_they_are_counted(stored, tokenizer):
    recipe = Recipe()
    guess = row_lengths(stored, recipe)
    assert guess.spread > 0 and len(guess.total) == stored.num_examples and guess.notes
    counted = token_lengths(stored, tokenizer)
    other = row_lengths(stored, recipe)  # counted with a tokenizer, perhaps another one
    assert 0 < other.spread < guess.spread and (other.total == counted.total).all()
    given = row_lengths(stored, recipe, counted)
    assert given.spread == 0 and not given.notes


def test_steps_and_intervals():
    recipe = Recipe(per_device_train_batch_size=4, gradient_accumulation_steps=2)
    assert steps_of(recipe, 81) == 3 * 11 and steps_of(recipe, 81, devices=2) == 3 * 6
    assert steps_of(Recipe(max_steps=7), 5) == 7 and steps_of(recipe, 0) == 0
    assert steps_of(Recipe(num_train_epochs=0.01), 5) == 1
    assert [times_of(every, 10) for every in (0, 0.1, 3, 0.25, 99)] == [1, 10, 4, 4, 1]
