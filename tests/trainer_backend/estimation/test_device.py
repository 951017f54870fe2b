"""Rates of a device: typical ones by kind and name, measured ones kept by machine."""

from dataclasses import replace

import pytest
from estimated import CPU, H200

from trainer_backend.estimation import device
from trainer_backend.estimation.device import (
    Rates,
    keep_rates,
    machine_key,
    measure,
    measure_in_background,
    measured_rates,
    rates_in_words,
    rates_of,
    typical_rates,
)
from trainer_backend.hardware import hardware
from trainer_backend.runs.state import write_state

MEASURED = {"fp32": 180.0, "bf16": 410.0, "memory": 55.0}


def test_measured_rates_are_used_for_that_machine_alone(home):
    keep_rates(home, CPU, MEASURED)
    assert rates_of(CPU, home) == Rates(180.0, 410.0, 180.0, 55.0, measured=True)
    assert not rates_of(replace(CPU, cores=8), home).measured
    assert not rates_of(H200, home).measured
    assert not rates_of(CPU, None).measured


def test_machines_that_share_a_home_keep_their_rates(home):
    keep_rates(home, CPU, MEASURED)
    keep_rates(home, H200, {"fp32": 4e5, "bf16": 8e5, "fp16": 8e5, "memory": 4e3})
    assert rates_of(CPU, home).fp32 == 180.0
    assert rates_of(H200, home).bf16 == 8e5


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"KEY": 3}', '{"KEY": {"fp32": "x", "memory": 3}}', '{"KEY": {"fp32": -1}}'],
)
def test_a_damaged_file_counts_as_not_measured(home, text):
    (home / "devices.json").write_text(text.replace("KEY", machine_key(CPU)))
    assert measured_rates(CPU, home) is None
    keep_rates(home, CPU, MEASURED)
    assert rates_of(CPU, home).measured


@pytest.mark.parametrize("rates", [{}, {"fp32": 0.0, "memory": 5.0}, {"fp32": 1e12, "memory": 1.0}])
def test_rates_that_make_no_sense_are_not_kept(home, rates):
    keep_rates(home, CPU, rates)
    assert measured_rates(CPU, home) is None


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("NVIDIA H200", 500e3, 990e3),
        ("NVIDIA H100 PCIe", 400e3, 760e3),
        ("NVIDIA H100 80GB HBM3", 600e3, 990e3),
        ("NVIDIA A100-SXM4-80GB", 180e3, 312e3),
        ("NVIDIA L40S", 200e3, 362e3),
        ("NVIDIA L4", 60e3, 121e3),
        ("Tesla T4", 1e3, 65e3),
        ("NVIDIA GeForce RTX 4090", 90e3, 165e3),
        ("Something new", 20e3, 100e3),
    ],
)
def test_a_gpu_has_the_rate_of_its_name(name, least, most):
    machine = replace(H200, name=name, bf16="T4" not in name)
    assert least <= typical_rates(machine).bf16 <= most


def test_a_cpu_with_more_cores_is_quicker():
    assert typical_rates(replace(CPU, cores=8)).fp32 > typical_rates(CPU).fp32
    assert typical_rates(replace(CPU, kind="mps")).fp32 > typical_rates(CPU).fp32


def test_the_words_say_whether_it_was_measured():
    found = Rates(180.0, 410.4, 180.0, 55.0, measured=True)
    assert rates_in_words(found, "bf16") == (
        "the measured speed of this machine (410 GFLOP/s in bf16)"
    )
    typical = Rates(4e5, 742e3, 742e3, 3000.0)
    assert rates_in_words(typical, "bf16") == (
        "a typical speed of this kind of device (742 TFLOP/s in bf16)"
    )


def test_measuring_keeps_what_the_process_prints(home, monkeypatch):
    monkeypatch.setattr(device, "_from_process", lambda: MEASURED)
    found = measure(home)
    assert found is not None and found.bf16 == 410.0
    monkeypatch.setattr(device, "_from_process", pytest.fail)
    assert measure(home) == found == measured_rates(hardware(), home)


def test_a_process_that_cannot_measure_leaves_typical_rates(home, monkeypatch):
    monkeypatch.setattr(device, "MEASURING", "trainer_backend.no_such_module")
    assert measure(home) is None
    assert not (home / "devices.json").exists()


def test_nothing_is_measured_while_a_run_trains(home, run, monkeypatch):
    monkeypatch.setattr(device, "_from_process", pytest.fail)
    write_state(run.dir, {**run.state(), "state": "running"})
    assert measure(home) is None


def test_the_background_measures_once_unless_switched_off(home, monkeypatch):
    measured = []
    monkeypatch.setattr(device, "_from_process", lambda: measured.append(1) or MEASURED)
    assert measure_in_background(home) is None  # the tests switch it off
    monkeypatch.setenv("SFT_STUDIO_MEASURE", "on")
    thread = measure_in_background(home)
    assert thread is not None
    thread.join(20)
    assert measure_in_background(home) is None
    assert measured == [1] and measured_rates(hardware(), home) is not None
