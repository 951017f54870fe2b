"""Seconds of a run as a range, with what they rest on, from nothing to several earlier runs."""

import time
from dataclasses import replace

import pytest
from estimated import CPU, H200, LLAMA_1B, SETTLED, SMOL, plan, timing

from trainer_backend.estimation.device import Rates, keep_rates
from trainer_backend.estimation.speed import phases_of, seconds_of, settled
from trainer_backend.estimation.timing import write_timing
from trainer_backend.recipe import Recipe

SLOW_BF16 = Rates(180.0, 200.0, 180.0, 50.0, measured=True)


@pytest.fixture
def measured(home):
    keep_rates(home, CPU, {"fp32": 180.0, "bf16": 410.0, "memory": 55.0})
    return home


def took(home, name, factor, recipe=SETTLED):
    """A run that took so many times as long as modelled."""
    phases, _ = phases_of(SMOL, plan(), recipe, CPU, home, history=False)
    folder = home / "runs" / name
    folder.mkdir()
    seconds = {phase: factor * seconds for phase, (seconds, _) in phases.items()}
    write_timing(folder, timing(recipe=recipe, **seconds))


def likely(home, recipe=SETTLED, **changes):
    return seconds_of(SMOL, plan(**changes), recipe, CPU, home)[0]


def test_the_range_encloses_the_likely_seconds(measured):
    for home in (measured, None):
        found, _ = seconds_of(SMOL, plan(), SETTLED, CPU, home)
        assert 0 < found.low < found.likely < found.high


def test_a_measured_device_narrows_the_range_and_runs_narrow_it_more(measured):
    typical, device = likely(None), likely(measured)
    took(measured, "run-a", 1.5)
    once = likely(measured)
    took(measured, "run-b", 1.5)
    twice = likely(measured)
    widths = [one.high / one.low for one in (typical, device, once, twice)]
    assert widths == sorted(widths, reverse=True)


def test_an_earlier_run_moves_the_estimate_to_what_it_took(measured):
    before = likely(measured).likely
    took(measured, "run-a", 3.0)
    after = likely(measured)
    assert after.likely == pytest.approx(3.0 * before, rel=0.2)
    assert after.low < 3.0 * before < after.high


def test_a_run_does_not_judge_itself(measured):
    before = likely(measured)
    took(measured, "run-a", 3.0)
    alone, _ = seconds_of(SMOL, plan(), SETTLED, CPU, measured, without="run-a")
    assert alone == before


def test_runs_of_another_machine_change_nothing(measured):
    took(measured, "run-a", 3.0)
    other = replace(CPU, cores=64)
    assert seconds_of(SMOL, plan(), SETTLED, other, measured) == seconds_of(
        SMOL, plan(), SETTLED, other, None
    )


def test_the_sentence_says_what_the_estimate_rests_on(measured):
    def basis(home=measured, shape=SMOL, recipe=SETTLED, machine=CPU):
        return seconds_of(shape, plan(), recipe, machine, home)[1]

    assert basis(None).startswith("a typical speed of this kind of device (")
    assert basis(machine=H200).startswith("a typical speed of this kind of device (")
    assert basis() == (
        "the measured speed of this machine (410 GFLOP/s in bf16); no earlier run yet"
    )
    took(measured, "run-a", 1.2)
    assert basis() == "1 earlier run on this machine, with this model and method"
    took(measured, "run-b", 1.2)
    assert basis() == "2 earlier runs on this machine, all with this model and method"
    took(measured, "run-c", 1.2, replace(SETTLED, adapter="full"))
    assert basis() == "3 earlier runs on this machine, 2 of them with this model and method"
    other = replace(SETTLED, base_model="meta-llama/Llama-3.2-1B")
    assert basis(shape=LLAMA_1B, recipe=other) == (
        "3 earlier runs on this machine, none of them with this model and method"
    )


@pytest.mark.parametrize(
    ("asked", "machine", "rates", "precision"),
    [
        ({}, CPU, replace(SLOW_BF16, bf16=410.0), "bf16"),
        ({}, CPU, SLOW_BF16, "fp32"),
        ({}, replace(CPU, bf16=False), SLOW_BF16, "fp32"),
        ({}, H200, SLOW_BF16, "bf16"),
        ({"adapter": "qlora"}, CPU, SLOW_BF16, "int4"),
        ({"precision": "fp32"}, H200, SLOW_BF16, "fp32"),
    ],
)
def test_the_number_format_is_the_one_the_worker_chooses(asked, machine, rates, precision):
    assert settled(Recipe(**asked), machine, rates).precision == precision


def test_hundreds_of_runs_are_read_within_a_moment(measured):
    for number in range(400):
        folder = measured / "runs" / f"run-{number}"
        folder.mkdir()
        write_timing(folder, timing(training=20.0))
    likely(measured)
    began = time.process_time()
    likely(measured)
    assert time.process_time() - began < 0.15
