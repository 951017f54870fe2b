"""Reads uploads in a separate process with a memory limit, and reports its progress."""

from trainer_backend.data.reading.reading import Opened, Reading, start_reading, start_work
