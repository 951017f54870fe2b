"""The sums on paper as tables of a document."""

import math
from dataclasses import replace

from benchmarks.scaling.paper.crowd import Crowd, Rows
from benchmarks.scaling.paper.sharded import (
    GB,
    SEVENTY,
    Cluster,
    Training,
    checkpoint_bytes,
    checkpoint_seconds,
    covering_tokens,
    device_bytes,
    host_bytes,
    product_seconds,
    sharded_checkpoint_seconds,
    start_seconds,
    step_seconds,
    wire_bytes,
    wire_seconds,
)


def paper_tables() -> list[str]:
    """Lines of Markdown: many rows, a 70 B model on 64 GPUs, many people."""
    return [*rows_table(), "", *model_table(), "", *crowd_table()]


def rows_table() -> list[str]:
    """One million, ten and a hundred million rows."""
    sizes = [Rows(1e6), Rows(1e7), Rows(1e8)]
    lines = _head("rows", [f"{one.count:,.0f}" for one in sizes])
    for name in sizes[0].seconds():
        lines.append(_row(name, [_time(one.seconds()[name]) for one in sizes]))
    for name in sizes[0].memory():
        lines.append(_row(f"memory of the {name}", [_size(one.memory()[name]) for one in sizes]))
    lines.append(_row("disk of the run's rows", [_size(one.disk()) for one in sizes]))
    return lines


def model_table() -> list[str]:
    """All weights and an adapter, with one connection of 400 Gb/s a machine and one a GPU."""
    slow, fast = Cluster(), Cluster(between=8 * 50 * GB)
    full = Training(SEVENTY, slow)
    cases = [full, replace(full, cluster=fast)]
    cases += [replace(one, rank=16) for one in cases]
    names = ("all weights", "all weights, 8 connections", "LoRA r=16", "LoRA, 8 connections")
    lines = _head("70 B on 8 × 8 GPUs of 80 GB, 8,192 tokens each", list(names))
    for part in device_bytes(full):
        lines.append(_row(f"memory: {part}", [_size(device_bytes(one)[part]) for one in cases]))
    totals = [_size(sum(device_bytes(one).values())) for one in cases]
    lines.append(_row("memory of a GPU", totals))
    for part in wire_bytes(full):
        lines.append(_row(f"{part}, a step", [_size(wire_bytes(one)[part]) for one in cases]))
    for name, seconds in {
        "on the wire, a step": wire_seconds,
        "products, a step": product_seconds,
        "a step": step_seconds,
        "a checkpoint, by the first process": checkpoint_seconds,
        "a checkpoint, if all wrote": sharded_checkpoint_seconds,
    }.items():
        lines.append(_row(name, [_time(seconds(one)) for one in cases]))
    tokens = [f"{covering_tokens(one):,.0f}" for one in cases]
    lines.append(_row("tokens a GPU that hide the wire", tokens))
    lines.append(_row("bytes of a checkpoint", [_size(checkpoint_bytes(one)) for one in cases]))
    lines.append(
        _row("host memory of a machine, loading", [_size(host_bytes(one)) for one in cases])
    )
    for name in start_seconds(full):
        lines.append(_row(f"start: {name}", [_time(start_seconds(one)[name]) for one in cases]))
    return lines


def crowd_table() -> list[str]:
    """Ten, a hundred and a thousand people."""
    sizes = [Crowd(10), Crowd(100), Crowd(1_000)]
    lines = _head("people on one server with 8 GPUs", [f"{one.people:,}" for one in sizes])
    lines.append(_row("requests a second", [f"{one.requests():,.0f}" for one in sizes]))
    for name in sizes[0].cores():
        lines.append(_row(f"cores: {name}", [f"{one.cores()[name]:.3f}" for one in sizes]))
    lines.append(_row("memory of the app", [_size(one.memory()) for one in sizes]))
    lines.append(_row("disk of the home folder", [_size(one.disk()) for one in sizes]))
    lines.append(_row("devices that the runs need", [f"{one.load():.1f}" for one in sizes]))
    lines.append(_row("mean wait in the queue", [_time(3600 * one.wait_hours()) for one in sizes]))
    return lines


def _head(what: str, columns: list[str]) -> list[str]:
    return [_row(what, columns), _row("---", ["---"] * len(columns))]


def _row(name: str, cells: list[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _time(seconds: float) -> str:
    if math.isinf(seconds):
        return "grows without end"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(count: float) -> str:
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1e3:.0f} KB"
