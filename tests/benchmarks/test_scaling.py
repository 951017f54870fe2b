"""Slopes and sums of the scale benchmark."""

import argparse
import math

import pytest

from benchmarks import scale
from benchmarks.scaling.meter import Measured
from benchmarks.scaling.paper import crowd, paper_tables, sharded
from benchmarks.scaling.slopes import fitted, slope_of, table

FULL = sharded.Training(sharded.SEVENTY, sharded.Cluster())
LORA = sharded.Training(sharded.SEVENTY, sharded.Cluster(), rank=16)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_a_slope_is_the_exponent(power):
    sizes = [10, 100, 1000]
    slope = slope_of(sizes, [3 * size**power for size in sizes])
    assert slope.whole == pytest.approx(power) and not slope.bends


def test_a_line_that_bends_says_so_and_gives_its_range():
    slope = slope_of([10, 100, 1000], [1, 10, 1000])
    assert slope.pieces == pytest.approx((1, 2)) and slope.bends
    assert str(slope) == "1.50 (1.00 to 2.00)"
    assert slope_of([10], [1]) is None and slope_of([10, 20], [0, 1]) is None


def looked(name: str, size: int, cpu: float, memory: float) -> Measured:
    return Measured(name, size, cpu, cpu, memory, memory)


def test_the_table_has_a_column_a_size_and_leaves_noise_out_of_the_fit():
    found = [looked("store", size, size / 1000, size) for size in (1, 100, 1000)]
    found.append(looked("page", 1000, 0.001, 0))
    lines = table(found, "rows")
    assert lines[0] == "| rows | 1 | 100 | 1,000 | time grows as | memory grows as |"
    assert lines[2].startswith("| store | 1 ms, 1 MB | 100 ms, 100 MB | 1.0 s, 1,000 MB | n^1.00")
    assert lines[3] == "| page | – | – | 1 ms, 0 MB | too small | too small |"
    assert fitted(found[:3], "cpu_s").pieces == pytest.approx((1.0,))


def test_tables_are_written_between_their_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("A\n<!-- rows -->\nold\n<!-- end of rows -->\nB\n")
    for lines in (["1"], ["1", "2"]):
        scale.write_between(page, "rows", lines)
    assert page.read_text() == "A\n<!-- rows -->\n\n1\n2\n\n<!-- end of rows -->\nB\n"
    with pytest.raises(ValueError, match="no place"):
        scale.write_between(page, "viewers", [])


def test_the_document_has_a_place_for_every_part():
    text = scale.DOCUMENT.read_text(encoding="utf-8")
    for name in (*scale.PARTS, "paper"):
        assert text.index(f"<!-- {name} -->") < text.index(f"<!-- end of {name} -->")


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"most": None}, [10_000, 100_000, 1_000_000]),
        ({"most": 100_000}, [10_000, 100_000]),
        ({"most": 10_000_000}, [10_000, 100_000, 1_000_000, 10_000_000]),
        ({"most": None, "quick": True}, [2_000, 10_000]),
    ],
)
def test_sizes_that_are_asked_for(options, sizes):
    given = argparse.Namespace(**{"quick": False, **options})
    assert scale.sizes_of("rows", given) == sizes


def test_the_seventy_has_the_published_number_of_weights():
    assert sharded.SEVENTY.weights == pytest.approx(70.55e9, rel=1e-3)  # without norms


def test_a_device_holds_its_share_of_sixteen_bytes_a_weight():
    assert sharded.device_bytes(FULL)["shards"] == 16 * sharded.SEVENTY.weights / 64
    frozen, learned = 2 * sharded.SEVENTY.weights, 16 * sharded.SEVENTY.adapter(16)
    assert sharded.device_bytes(LORA)["shards"] == (frozen + learned) / 64


def test_only_gradients_that_learn_are_on_the_wire():
    full, lora = sharded.wire_bytes(FULL), sharded.wire_bytes(LORA)
    assert full["all-gather"] == lora["all-gather"] == 63 / 64 * 4 * sharded.SEVENTY.weights
    assert full["reduce-scatter"] == 63 / 64 * 4 * sharded.SEVENTY.weights
    assert lora["reduce-scatter"] == 63 / 64 * 4 * sharded.SEVENTY.adapter(16)


def test_one_machine_waits_for_its_own_links_only():
    alone = sharded.Training(sharded.SEVENTY, sharded.Cluster(nodes=1))
    assert sharded.wire_seconds(alone) == pytest.approx(
        sum(sharded.wire_bytes(alone).values()) / alone.cluster.inside
    )


def test_a_step_takes_the_longer_of_products_and_wire():
    short = sharded.Training(sharded.SEVENTY, sharded.Cluster(), tokens=100)
    assert sharded.step_seconds(short) == sharded.wire_seconds(short)
    assert sharded.step_seconds(FULL) == sharded.product_seconds(FULL)
    hidden = round(sharded.covering_tokens(FULL))
    edge = sharded.Training(sharded.SEVENTY, sharded.Cluster(), tokens=hidden)
    assert sharded.product_seconds(edge) == pytest.approx(sharded.wire_seconds(edge), rel=1e-3)


def test_the_queue_is_that_of_erlang_and_has_an_end_only_below_its_devices():
    one = crowd.Crowd(10, run_hours=1.0, day_hours=20.0, devices=1)  # half of one device
    assert one.load() == 0.5
    assert one.wait_hours() == pytest.approx(1.0)  # M/M/1: rho / (mu - lambda)
    assert math.isinf(crowd.Crowd(1_000, devices=8).wait_hours())


def test_costs_on_paper_are_linear_in_rows():
    for one, other in ((crowd.Rows(1e6), crowd.Rows(1e8)),):
        for cost in (crowd.Rows.seconds, crowd.Rows.memory):
            assert {k: 100 * v for k, v in cost(one).items()} == pytest.approx(cost(other))


def test_every_row_of_the_paper_has_the_columns_of_its_head():
    lines = "\n".join(paper_tables()).split("\n\n")
    assert len(lines) == 3
    for block in lines:
        assert len({line.count("|") for line in block.splitlines()}) == 1
