"""How cost grows: rows, row length, model, rank, batch, processes, runs and viewers, with slopes.

    python -m benchmarks.scale [--part PART ...] [--quick] [--most N] [--rounds N] [--write]
    python -m benchmarks.scale --paper

Each size is measured in a process of its own. Time is processor time, memory that of the process
above what it held before, without pages of files. With --rounds the least of several counts.
--write puts the tables into docs/scale.md, between the marks of their parts. --paper prints sums
that nobody measured here: many rows, a 70 B model on 64 GPUs, a thousand people on one server.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scaling import app, rows, training
from benchmarks.scaling.meter import ROOT, Measured, in_own_process
from benchmarks.scaling.paper import paper_tables
from benchmarks.scaling.slopes import table

DOCUMENT = ROOT / "docs" / "scale.md"


@dataclass(frozen=True)
class Part:
    """What grows, how it is measured at one size, and at which sizes."""

    measure: Callable[[int], None]
    unit: str
    sizes: tuple[int, ...]
    quick: tuple[int, ...]


PARTS = {
    "rows": Part(rows.measure_rows, "rows", (10_000, 100_000, 1_000_000), (2_000, 10_000)),
    "length": Part(training.measure_length, "tokens", (256, 1024, 4096), (256, 1024)),
    "model": Part(
        training.measure_model,
        "weights",
        (MILLION := 1_000_000, 4 * MILLION, 16 * MILLION, 64 * MILLION),
        (MILLION, 4 * MILLION),
    ),
    "rank": Part(training.measure_rank, "rank", (4, 16, 64, 256), (4, 16)),
    "batch": Part(training.measure_batch, "rows a step", (1, 4, 16, 64), (1, 4)),
    "processes": Part(training.measure_processes, "processes", (1, 2), (1, 2)),
    "runs": Part(app.measure_runs, "run folders", (10, 100, 1_000), (10, 50)),
    "viewers": Part(app.measure_viewers, "viewers", (1, 10, 100), (1, 10)),
}


def main() -> int:
    """Measure the parts asked for and print a table each; or the sums on paper."""
    options = read_options()
    if options.one:
        PARTS[options.one].measure(options.size)
        return 0
    if options.paper:
        print("\n".join(paper_tables()))
        return 0
    for name in options.part or PARTS:
        lines = measured(name, options)
        print("\n".join([f"\n== {name}", *lines]), flush=True)
        if options.write:
            write_between(DOCUMENT, name, lines)
    if options.write:
        write_between(DOCUMENT, "paper", paper_tables())
    return 0


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, help="what grows (default: all)")
    parser.add_argument("--quick", action="store_true", help="two small sizes")
    parser.add_argument("--most", type=int, help="leave out larger sizes; adds this one for rows")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="into docs/scale.md")
    parser.add_argument("--paper", action="store_true", help="sums for sizes not measured here")
    parser.add_argument("--one", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def measured(name: str, options: argparse.Namespace) -> list[str]:
    """The table of one part, with the load of the machine meanwhile."""
    part, found = PARTS[name], []
    for size in sizes_of(name, options):
        looks = [in_own_process(name, size) for _ in range(options.rounds)]
        found += least(looks)
        print(f"{name} {size:,} done, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    return table(found, part.unit)


def sizes_of(name: str, options: argparse.Namespace) -> list[int]:
    """The sizes of a part that the command line asks for."""
    part = PARTS[name]
    sizes = [*(part.quick if options.quick else part.sizes)]
    if options.most is None:
        return sizes
    kept = [size for size in sizes if size <= options.most]
    return sorted({*kept, options.most}) if name == "rows" else kept


def least(looks: Iterable[list[Measured]]) -> list[Measured]:
    """Of each step, the look that took the least processor time."""
    return [min(same, key=lambda one: one.cpu_s) for same in zip(*looks, strict=True)]


def write_between(document: Path, name: str, lines: list[str]) -> None:
    """Replace what stands between the marks of a part. Raises ValueError without such marks."""
    text = document.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = text.partition(begin)
    if not found or end not in rest:
        raise ValueError(f"{document.name} has no place for {name}")
    after = rest[rest.index(end) :]
    document.write_text("\n".join([before + begin, *lines, "", after]), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
