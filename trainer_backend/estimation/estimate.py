"""The estimate of a run: what it will take on this machine, and the settings that would fit."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainer_backend.data.store import LengthReport, StoredDataset
from trainer_backend.hardware import Hardware
from trainer_backend.recipe import Recipe


@dataclass(frozen=True)
class Range:
    """A figure that is likely `likely` and hardly outside of `low` to `high`."""

    low: float
    likely: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """What a run takes. Memory, download and disk are in GiB; None: not known.

    `fits` is None where the memory is not known. `parts` sum up to the likely memory: weights,
    adapter, optimizer, gradients, activations, logits, other. `fix` holds the settings that make
    it fit, None if it fits or nothing helps; `based_on` and `notes` are sentences for people.
    """

    fits: bool | None
    memory_gb: Range | None
    parts: dict[str, float]
    memory_free_gb: float
    steps: int | None
    tokens: int | None
    seconds: Range | None
    download_gb: float | None
    disk_gb: float | None
    based_on: str
    fix: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The JSON of the command line and the web API."""
        return asdict(self)


def estimate(
    recipe: Recipe,
    dataset: StoredDataset | None = None,
    hardware: Hardware | None = None,
    *,
    home: Path | None = None,
    lengths: LengthReport | None = None,
) -> Estimate:
    """What a run with this recipe takes, without loading weights and without torch.

    `lengths` are the counted tokens of the dataset's rows; without them stored counts are used,
    or the lengths are guessed from the texts. `hardware` is this machine unless given. What is not
    known (a model whose sizes nobody can read) is None, with a note; nothing is raised for it.
    """
    raise NotImplementedError
