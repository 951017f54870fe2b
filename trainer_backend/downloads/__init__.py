"""Downloads that show their bytes, stop at once and continue where they stopped.

What is fetched (a model, a data file, the starter) is known here by address and size alone.
"""

from trainer_backend.downloads.gauge import Gauge, Progress, silent, watched
from trainer_backend.downloads.hub_cache import ASK_S, HubFiles, NoBar, fetch_hub_files
from trainer_backend.downloads.transfer import (
    Answer,
    Damaged,
    Silence,
    Transfer,
    fetch_all,
    waiting_lock,
)
from trainer_backend.downloads.words import bytes_in_words, size_in_words, time_in_words
