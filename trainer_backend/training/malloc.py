"""Tunes glibc malloc so that freed tensor memory is reused between steps.

How much memory a run may use is not decided here.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM, _MAPPED = -1, -3  # glibc's malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
_KEPT = {_MAPPED: 32 << 20, _TRIM: (1 << 31) - 1}  # bytes
_USUAL = {_MAPPED: 32 << 20, _TRIM: 64 << 20}  # the ceilings of glibc's own tuning


@contextmanager
def kept_memory(device_type: str) -> Iterator[bool]:
    """Let glibc keep freed memory while a model trains on a CPU; yields whether it does.

    Otherwise every tensor of some megabytes is mapped anew, and the kernel clears each page at
    first touch: 61,000 page faults a step for a small model. Tensors above 32 MB are still mapped.
    Kept memory is returned to the system at the end. Does nothing with another C library.
    """
    library = ctypes.CDLL(None) if device_type == "cpu" else None
    if library is None or not all(hasattr(library, n) for n in ("mallopt", "malloc_trim")):
        yield False
        return
    for name, size in _KEPT.items():
        library.mallopt(name, size)
    try:
        yield True
    finally:
        for name, size in _USUAL.items():
            library.mallopt(name, size)
        library.malloc_trim(0)


def give_back() -> None:
    """Return kept memory to the system now, so that the free memory can be measured."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
