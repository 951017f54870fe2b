"""What every tab receives (home folder, scheduler, model process), and the options of events."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer_backend.scheduling import Scheduler
    from trainer_backend.serving.client import ModelProcess


Options = dict[str, Any]  # keyword arguments of an event


@dataclass(frozen=True)
class Studio:
    """The home folder, the scheduler of runs, and the client of the process that holds a model."""

    home: Path
    scheduler: "Scheduler"
    model_process: "ModelProcess"


# Options of events; the page's own events are not part of the web API. Gradio shows messages of
# events in the queue only, and a State fires `change` only when such an event has set it.
PRIVATE: Options = {"api_visibility": "private"}
QUICK: Options = {"show_progress": "hidden", "api_visibility": "private"}
SETS_STATE: Options = QUICK
# For choices (a version, a row, a run): each is handled, in order. By default Gradio drops an event
# that comes while the one before it is handled, and “always_last” passes on the data of the first.
IN_TURN: Options = {"trigger_mode": "multiple", "concurrency_limit": 1}
# Beside the queue, in one request instead of two: for handlers that never show a message.
SILENT: Options = {**QUICK, "queue": False}
