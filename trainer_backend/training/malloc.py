"""Memory that tensors on a CPU leave behind, kept for the next tensors instead of given back.

Limits on memory are hardware.py's matter.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM, _MAPPED = -1, -3  # glibc's malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
_KEPT = {_MAPPED: 32 << 20, _TRIM: (1 << 31) - 1}  # bytes
_USUAL = {_MAPPED: 32 << 20, _TRIM: 64 << 20}  # where glibc arrives by itself


@contextmanager
def kept_memory(device_type: str) -> Iterator[bool]:
    """Let glibc keep freed memory while a model trains on a CPU; yields whether it does.

    Otherwise a tensor of some megabytes is new memory from the system each time, and every page
    of it is cleared at first touch: 61,000 pages a step of a small model. Tensors above 32 MB are
    the system's matter all the same. Freed memory goes back to the system at the end. Other C
    libraries are left as they are.
    """
    library = ctypes.CDLL(None) if device_type == "cpu" else None
    if not all(hasattr(library, name) for name in ("mallopt", "malloc_trim")):
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
    """Give kept memory back to the system now, so that what is free can be seen."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
