"""Reads an upload in a process of its own, with a memory limit, and reports progress."""

from trainer_backend.data.reading.reading import Opened, Reading, start_reading, start_work

__all__ = [
    "Opened",
    "Reading",
    "start_reading",
    "start_work",
]
