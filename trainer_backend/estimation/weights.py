"""Weights on this machine: how many there are and in what format, from the headers of their files.

A safetensors file begins with a table of its tensors; nothing after it is read here.
"""

import json
import math
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

HALF_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
LONGEST_HEADER = 100 << 20  # bytes, as the safetensors format allows
PACKED_4BIT = 2  # weights in one stored byte


@dataclass(frozen=True)
class Stored:
    """Weights that are converted to the recipe's precision, and bytes of those stored quantized."""

    numbers: int
    fixed_bytes: int
    formats: Mapping[str, int] = field(default_factory=dict, compare=False)  # dtype -> weights

    @property
    def file_bytes(self) -> int:
        """Bytes of all weights in the files."""
        return sum(HALF_BYTES[kind] * n for kind, n in self.formats.items()) + self.fixed_bytes

    @property
    def main_format(self) -> str:
        """The format most weights are stored in; "" for none."""
        return max(self.formats, key=lambda kind: self.formats[kind], default="")


def stored_weights(folder: Path) -> Stored:
    """Count the weights of a model folder; only the headers of its safetensors files are read.

    Raises OSError or ValueError for a file that cannot be read.
    """
    formats: Counter[str] = Counter()
    fixed = 0
    for path in sorted(folder.glob("*.safetensors")):
        facts = path.stat()
        found, quantized = _counted(path, facts.st_mtime_ns, facts.st_size)
        formats.update(dict(found))
        fixed += quantized
    return Stored(sum(formats.values()), fixed, dict(formats))


@lru_cache(maxsize=256)
def _counted(path: Path, _stamp: int, _size: int) -> tuple[tuple[tuple[str, int], ...], int]:
    """({format: weights} as pairs, bytes of quantized weights) of one file."""
    formats: Counter[str] = Counter()
    fixed = 0
    for name, facts in _header(path).items():
        if name == "__metadata__":
            continue
        count = math.prod(facts["shape"])
        if facts["dtype"] in HALF_BYTES:
            formats[facts["dtype"]] += count
        else:
            first, end = facts["data_offsets"]
            fixed += end - first
    return tuple(formats.items()), fixed


def _header(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if not 2 <= length <= LONGEST_HEADER:
            raise ValueError(f"{path.name} is no safetensors file")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError(f"{path.name} is no safetensors file")
    return header
