"""The cheapest way to keep activations with which a run fits.

Every layer keeps all; layers are computed again (gradient checkpointing); long rows go through
norms and perceptrons in tiles; inputs of layers wait in main memory (activation offloading). None
of them changes a result. The bytes of each way come from the formula of memory.
"""

from collections.abc import Iterator
from dataclasses import replace

from trainer_backend.estimation.memory import TILE, Setup, peak_memory
from trainer_backend.hardware import GIB, ram
from trainer_backend.recipe import label

ROOM = 0.95  # of the free memory, that a way may use before the next is taken
MAIN_ROOM = 0.8  # of the free main memory, that activations may take


def settle(setup: Setup, room: float, main_memory: float | None = None) -> Setup:
    """The setup with the first way whose peak is at most `room` bytes; else with the least.

    What its recipe already asks for stays. `main_memory` are the free bytes that offloading may
    count on (None: those of this machine).
    """
    least, smallest = setup, float("inf")
    for way in ways(setup):
        peak = sum(peak_memory(way).values())
        if way.offloads and not setup.offloads and not has_room(way, main_memory):
            continue
        if peak <= room:
            return way
        if peak < smallest:
            least, smallest = way, peak
    return least


def ways(setup: Setup) -> Iterator[Setup]:
    """The setup and what saves more and more, the cheapest first."""
    yield setup
    recipe = setup.recipe
    if not recipe.gradient_checkpointing:
        recipe = replace(recipe, gradient_checkpointing=True)
        yield replace(setup, recipe=recipe)
    if not setup.tiled and setup.plan.longest_batch >= 2 * TILE:
        setup = replace(setup, tiled=True)
        yield replace(setup, recipe=recipe)
    if setup.device == "cuda" and not recipe.activation_offloading:
        yield replace(setup, recipe=replace(recipe, activation_offloading=True))


def moved_bytes(setup: Setup) -> float:
    """Bytes of main memory that the inputs of all layers of the largest batch take."""
    shape = setup.shape
    return float(shape.layers * shape.hidden * setup.stream * setup.plan.longest_batch)


def has_room(setup: Setup, main_memory: float | None = None) -> bool:
    """Whether main memory holds what offloading would move there; see settle()."""
    free = ram()[1] * GIB if main_memory is None else main_memory
    return setup.processes * moved_bytes(setup) <= MAIN_ROOM * free


def said(asked: Setup, settled: Setup) -> str:
    """What was switched on beside what the recipe asks for, in a sentence; "" for nothing."""
    names = [
        label(name)
        for name in ("gradient_checkpointing", "activation_offloading")
        if getattr(settled.recipe, name) and not getattr(asked.recipe, name)
    ]
    parts = [f"“{one}”" for one in names]
    parts += ["tiles for long rows"] if settled.tiled and not asked.tiled else []
    if not parts:
        return ""
    listed = ", ".join(parts[:-1]) + " and " * (len(parts) > 1) + parts[-1]
    verb = "are" if len(parts) > 1 else "is"
    return (
        f"So that the longest batch fits into memory, {listed} {verb} used; results are the same."
    )
