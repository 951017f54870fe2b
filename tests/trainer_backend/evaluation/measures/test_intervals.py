"""Intervals hold the truth as often as they say: by simulation, and against known values."""

from collections.abc import Callable

import numpy as np
import pytest

from trainer_backend.evaluation.measures import bootstrap, loss_metrics, paired_interval, wilson

Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


def right_or_wrong(base: float, tuned: float) -> Draw:
    return lambda drawn, n: tuple(drawn.random(n) < share for share in (base, tuned))  # type: ignore[return-value]


def continuous(drawn: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """F1-like scores; the two models agree on what is hard. Means 2/7 and 2/7 + 0.3 * 3/7."""
    base = drawn.beta(2, 5, n)
    return base, np.where(drawn.random(n) < 0.7, base, drawn.beta(5, 2, n))


POPULATIONS: dict[str, tuple[Draw, float]] = {
    "half to nearly all": (right_or_wrong(0.5, 0.9), 0.4),
    "few to nearly all": (right_or_wrong(0.05, 0.95), 0.9),
    "rare": (right_or_wrong(0.02, 0.1), 0.08),
    "no difference": (right_or_wrong(0.3, 0.3), 0.0),
    "continuous": (lambda d, n: (d.beta(2, 5, n), d.beta(5, 2, n)), 3 / 7),
    "small": (lambda d, n: (np.zeros(n), d.normal(0.01, 0.02, n)), 0.01),
}


@pytest.mark.parametrize("rows", [16, 40, 200])
@pytest.mark.parametrize("name", POPULATIONS)
def test_95_percent_intervals_cover_in_93_to_97_of_100_cases(name: str, rows: int) -> None:
    draw, truth = POPULATIONS[name]
    drawn, times = np.random.default_rng(11), 1500
    held = 0
    for _ in range(times):
        low, high = paired_interval(*draw(drawn, rows))
        held += low <= truth <= high
    assert 0.93 <= held / times <= 0.97


def test_mostly_tied_scores_come_near_it_with_40_rows() -> None:
    drawn, times = np.random.default_rng(6), 1000
    found = [paired_interval(*continuous(drawn, 40)) for _ in range(times)]
    assert 0.92 <= np.mean([low <= 0.3 * 3 / 7 <= high for low, high in found]) <= 0.97


def test_an_interval_is_the_same_every_time_and_turns_with_the_models() -> None:
    base, tuned = [0, 0, 1, 0.5] * 5, [1, 0.5, 1, 0] * 5
    assert paired_interval(base, tuned) == paired_interval(base, tuned)
    assert paired_interval(base, tuned, seed=1) != paired_interval(base, tuned)
    low, high = paired_interval(base, tuned)
    assert low < 0.25 < high
    turned = paired_interval(tuned, base)
    assert turned == pytest.approx((-high, -low), abs=0.03)


def test_ties_and_too_few_rows_are_not_called_certain() -> None:
    missed = 1 - 0.025 ** (1 / 40)  # Clopper and Pearson: none seen in 40
    assert paired_interval([0.5] * 40, [0.5] * 40) == pytest.approx((-missed, missed))
    assert paired_interval([0] * 16, [1] * 16) == pytest.approx(
        (1 - 2 * (1 - 0.025 ** (1 / 16)), 1)
    )
    assert paired_interval([], []) == (-1, 1)
    low, high = paired_interval([0], [1])
    assert low < 0 and high == 1


def test_long_data_is_resampled_in_parts() -> None:
    base, tuned = np.zeros(5000), np.random.default_rng(0).normal(0.1, 0.5, 5000)
    low, high = paired_interval(base, tuned)
    half = 1.96 * 0.5 / 5000**0.5
    assert (high - low) / 2 == pytest.approx(half, rel=0.1) and low < tuned.mean() < high


def test_wilson_against_known_values() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for wins, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(wins, n) == pytest.approx((low, high), abs=5e-5)
    assert wilson(20, 20)[1] == 1 and wilson(0, 0) == (0, 1)


def test_loss_and_perplexity_are_per_token() -> None:
    found = loss_metrics([4.0, 12.0, 9.0], [2.0, 6.0, 0.0], [2, 6, 0])
    assert (found["loss"].base, found["loss"].tuned, found["loss"].rows) == (2.0, 1.0, 2)
    assert found["loss"].better == "lower" and found["loss"].interval == (-1.0, -1.0)
    assert found["perplexity"].base == pytest.approx(np.e**2)
    assert found["perplexity"].tuned == pytest.approx(np.e)
    assert loss_metrics([1.0], [1.0], [0]) == {}
    low, high = loss_metrics([2.0], [1.0], [1])["loss"].interval
    assert low < 0 < high, "one row cannot tell"


def test_loss_intervals_cover_the_truth() -> None:
    drawn, held = np.random.default_rng(3), 0
    for _ in range(400):
        tokens = drawn.integers(5, 60, 40)
        base = drawn.normal(2.0, 0.4, 40)
        tuned = base - 0.3 + drawn.normal(0, 0.3, 40)
        low, high = loss_metrics(base * tokens, tuned * tokens, tokens)["loss"].interval
        held += low <= -0.3 <= high
    assert 0.93 <= held / 400 <= 0.975


def test_a_bootstrap_needs_two_rows() -> None:
    with pytest.raises(ValueError, match="two rows"):
        bootstrap(1, lambda weights: weights[:, 0])
