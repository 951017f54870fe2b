"""The run folder: files, states, checkpoints. The only channel between app and worker.

Torch-free: everything the page shows of a run is read here.
"""

from trainer_backend.runs.checkpoints import Damaged, best_of, commit, newest_intact, purge, rotate
from trainer_backend.runs.create import (
    create_run,
    list_runs,
    new_run_from,
    open_run,
    retry_run,
    unfinished_runs,
    unreadable_runs,
)
from trainer_backend.runs.dataset_use import delete_dataset
from trainer_backend.runs.events import read_event
from trainer_backend.runs.failures import (
    describe,
    disk_full,
    from_exit,
    halve_batch,
    memory_kills,
    what_is_safe,
)
from trainer_backend.runs.run import Run
from trainer_backend.runs.spec import locked_fields, package_differences, pin
from trainer_backend.runs.state import (
    ACTIVE,
    LIVE,
    OVER,
    RESUMABLE,
    after_stop,
    amend,
    begin_again,
    cancel,
    enter,
    is_run,
    write_state,
)
from trainer_backend.runs.target import Target, find_target, run_target
from trainer_backend.runs.watched.heartbeat import Heartbeat
from trainer_backend.runs.watched.worker_log import redact_output
from trainer_backend.runs.webhook import send_notice
from trainer_backend.runs.writer import RunWriter
