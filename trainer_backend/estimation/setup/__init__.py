"""All that decides the memory of a run; the bytes that follow from it are not known here."""

from dataclasses import dataclass

from trainer_backend.estimation.plan import Plan
from trainer_backend.estimation.shape import Shape
from trainer_backend.estimation.weights import Stored
from trainer_backend.hardware import Hardware
from trainer_backend.recipe import Recipe
from trainer_backend.recipe.resolve import QUANTIZED


@dataclass(frozen=True)
class Setup:
    """All that decides the memory of a run; `recipe` is resolved: no “auto”."""

    shape: Shape
    recipe: Recipe
    machine: Hardware
    plan: Plan
    processes: int = 1
    stored: Stored | None = None  # None: the weights are not on this machine
    bits: int | None = None  # 4 or 8: weights stored quantized
    tiled: bool = False  # long rows go through norms and multi-layer perceptrons in tiles
    parts: int = 1  # in which an optimizer step is computed, where its batches are merged

    @property
    def device(self) -> str:
        return self.machine.kind

    @property
    def full(self) -> bool:
        return self.recipe.adapter == "full"

    @property
    def quantized(self) -> bool:
        return self.bits is not None or self.recipe.precision in QUANTIZED

    @property
    def half(self) -> bool:
        """Whether products run in 16 bits: autocast, or on a GPU over quantized weights."""
        if self.quantized:
            return self.device == "cuda"
        return self.recipe.precision in ("bf16", "fp16")

    @property
    def width(self) -> int:
        """Bytes of a number in products."""
        return 2 if self.half else 4

    @property
    def stream(self) -> int:
        """Bytes of a number in the residual stream: full training keeps float32 weights."""
        return 4 if self.full else self.width

    @property
    def offloads(self) -> bool:
        """Whether activations wait in main memory; on a CPU they are there anyway."""
        return self.recipe.activation_offloading and self.device == "cuda"

    @property
    def merges(self) -> bool:
        """Whether the batches of a step are computed at once, in parts where memory is short.

        As the trainer does it: on a GPU, for rows that are joined, without the load-balancing loss
        of experts, with the whole model on each device.
        """
        joined = self.shape.packs and not self.shape.chosen_width
        return self.device == "cuda" and joined and self.shards == 1

    @property
    def shards(self) -> int:
        """Processes that share one copy of the weights (FSDP)."""
        return self.processes if self.recipe.distributed == "fsdp" else 1
