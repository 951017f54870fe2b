"""What every tab works with: where things are kept, and the two things that do the work.

How it is shown is in the tabs; how it works is in trainer_backend.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer_backend.scheduling import Scheduler
    from trainer_backend.serving.client import ModelProcess


@dataclass(frozen=True)
class Studio:
    """The home folder, the scheduler that drives runs and the process that holds a model."""

    home: Path
    scheduler: "Scheduler"
    model_process: "ModelProcess"


# How events run: none of the page's own events is part of the web API.
PRIVATE = {"api_visibility": "private"}
QUICK = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# Gradio tells the page that a State changed only when the event went through the queue.
SETS_STATE = {"show_progress": "hidden", "api_visibility": "private"}
