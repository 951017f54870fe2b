"""What earlier runs say: ratios of measured and modelled time, the nearest runs most."""

import json
import math
import os
from dataclasses import replace

import pytest
from estimated import CPU, H200, LLAMA_1B, SETTLED, SMOL, plan, timing

from trainer_backend.estimation.device import machine_key
from trainer_backend.estimation.history import (
    Earlier,
    correction,
    earlier_runs,
    likeness,
    weighted_median,
)
from trainer_backend.estimation.timing import write_timing

KEY = machine_key(CPU)


def modelled(timing, recipe):
    return {"training": 10.0, "loading": 4.0}


def put(home, name, told):
    folder = home / "runs" / name
    folder.mkdir()
    write_timing(folder, told)
    return folder


def ratio(value, recipe=SETTLED, shape=SMOL, **changes) -> Earlier:
    return Earlier(shape, plan(**changes), recipe, {"training": math.log(value)})


def corrected(runs):
    return correction("training", runs, SMOL, plan(), SETTLED, 0.35)


def test_runs_of_this_machine_give_ratios_of_their_phases(home):
    put(home, "run-a", timing(training=20.0, loading=4.0))
    put(home, "run-b", timing(machine=H200, training=900.0))
    (found,) = earlier_runs(home, KEY, modelled)
    assert found.ratios == pytest.approx({"training": math.log(2), "loading": 0.0})


def test_a_run_can_be_left_out(home):
    put(home, "run-a", timing(training=20.0))
    put(home, "run-b", timing(training=30.0))
    (found,) = earlier_runs(home, KEY, modelled, without="run-a")
    assert found.ratios["training"] == pytest.approx(math.log(3))


@pytest.mark.parametrize("damage", ["text", "folder", "settings", "nan", "absurd", "short"])
def test_damaged_and_disturbed_runs_say_nothing(home, damage):
    folder = put(home, "run-a", timing(training=20.0))
    file = folder / "timing.json"
    found = json.loads(file.read_text())
    seconds = {"nan": math.nan, "absurd": 1e6, "short": 0.01}
    if damage == "folder":
        file.unlink()
        file.mkdir()
    elif damage == "settings":
        file.write_text(json.dumps({**found, "recipe": {"adapter": "magic"}}))
    elif damage == "text":
        file.write_text('{"machine": "cp')
    else:
        file.write_text(json.dumps({**found, "seconds": {"training": seconds[damage]}}))
    assert earlier_runs(home, KEY, modelled) == []


def test_only_the_newest_runs_are_read(home, monkeypatch):
    monkeypatch.setattr("trainer_backend.estimation.history.MOST", 3)
    for number in range(5):
        folder = put(home, f"run-{number}", timing(training=10.0 + number))
        os.utime(folder / "timing.json", (1000 + number, 1000 + number))
    found = earlier_runs(home, KEY, modelled)
    assert [round(10 * math.exp(one.ratios["training"])) for one in found] == [14, 13, 12]


def test_a_home_without_runs_or_no_home_has_no_history(home):
    assert earlier_runs(home, KEY, modelled) == []
    assert earlier_runs(None, KEY, modelled) == []


def test_one_run_alike_moves_the_estimate_most_of_the_way():
    found = corrected([ratio(2.0)])
    assert 1.7 < found.factor < 2.0
    assert found.spread < 0.2


def test_more_runs_alike_are_trusted_more():
    few, many = corrected([ratio(2.0)]), corrected([ratio(2.0)] * 6)
    assert abs(many.factor - 2.0) < abs(few.factor - 2.0)
    assert many.spread < few.spread


def test_runs_that_differ_among_themselves_widen_the_range():
    assert corrected([ratio(1.0), ratio(2.0)]).spread > corrected([ratio(1.5)] * 2).spread


def test_without_runs_the_model_of_time_stands():
    found = corrected([])
    assert (found.factor, found.spread) == (1.0, 0.35)


@pytest.mark.parametrize(
    "other",
    [
        ratio(1.0, shape=LLAMA_1B),
        ratio(1.0, replace(SETTLED, adapter="full")),
        ratio(1.0, replace(SETTLED, precision="fp32")),
        ratio(1.0, replace(SETTLED, gradient_checkpointing=True)),
        ratio(1.0, row_tokens=2000.0),
        ratio(1.0, step_tokens=20_000.0),
    ],
)
def test_the_run_most_alike_counts_most(other):
    assert likeness(other, SMOL, plan(), SETTLED) < likeness(ratio(1.0), SMOL, plan(), SETTLED) == 1
    assert corrected([other, ratio(2.0)]).factor > math.sqrt(2.0)


def test_one_disturbed_run_does_not_count_fully():
    assert corrected([ratio(1.0)] * 4 + [ratio(15.0)]).factor < 1.2


def test_the_weighted_median_is_the_value_in_the_middle():
    assert weighted_median([(3.0, 1.0), (1.0, 1.0), (2.0, 5.0)]) == 2.0
    assert weighted_median([(7.0, 0.1)]) == 7.0
