"""Points of a curve: added, rewound, and thinned without losing spikes."""

import pytest

from sft_ui.train.run_feed import CURVES, Curve


def metrics(step, loss=1.0, **more):
    return {"type": "metrics", "step": step, "loss": loss, **more}


def curve_of(*events) -> Curve:
    curve = Curve()
    for event in events:
        curve.add(event)
    return curve


def test_points_come_back_as_they_were_added():
    full = dict(zip(CURVES, (1.23456789, 1e-4, 0.5, 512.0, 3.2), strict=True))
    curve = curve_of(metrics(1, **full), {"type": "eval", "step": 1, "eval_loss": 0.25})
    assert curve.points(0, 10) == [[1, 1.23457, 1e-4, 0.5, 512.0, 3.2], [1, 0.25]]
    assert curve.points(1, 10) == [[1, 0.25]]


@pytest.mark.parametrize("value", [None, "x"])
def test_a_nan_is_a_gap(value):
    assert curve_of(metrics(1, value)).points(0, 10) == [[1, None, None, None, None, None]]


def test_a_rewound_curve_ends_at_the_resumed_step():
    curve = curve_of(*(metrics(n) for n in range(1, 6)), {"type": "eval", "step": 5})
    curve.rewind(3)
    curve.add(metrics(4, 9.0))
    assert [point[:2] for point in curve.points(0, 10)] == [[1, 1], [2, 1], [3, 1], [4, 9]]
    curve.rewind(0)
    assert curve.points(0, 10) == [] and len(curve) == 0


@pytest.mark.parametrize("evals", [0, 1, 50, 5_000])
def test_a_long_curve_is_thinned_without_losing_spikes(evals):
    curve = Curve()
    for n in range(50_000):
        curve.add(metrics(n, 99.0 if n == 34_321 else 1.0))
        if evals and n % (50_000 // evals) == 0:
            curve.add({"type": "eval", "step": n, "eval_loss": 0.01 if n else 0.5})
    kept = curve.points(0, 1000)
    assert len(kept) <= 1000 and kept == sorted(kept, key=lambda point: point[0])
    assert [34_321, 99.0] in [point[:2] for point in kept]
    shown = sum(len(point) == 2 for point in kept)
    assert 0 < shown <= 250 if evals > 250 else shown == evals
