"""Measured rates of the device, with small matrices."""

import math

from trainer_backend.training import rates


def test_a_cpu_has_rates_of_products_and_of_its_memory(monkeypatch):
    monkeypatch.setattr(rates, "SIDES", {"cpu": 64})
    monkeypatch.setattr(rates, "COPIED", {"cpu": 1 << 16})
    found = rates.device_rates()
    assert {"fp32", "memory"} <= found.keys()
    assert all(math.isfinite(rate) and rate > 0 for rate in found.values())


def test_an_operation_counts_twice_its_products(monkeypatch):
    monkeypatch.setattr(rates, "SIDES", {"cpu": 100})
    monkeypatch.setattr(rates, "_best", lambda device, work: 1e-3)
    assert rates.device_rates()["fp32"] == 2 * 100**3 / 1e-3 / 1e9
